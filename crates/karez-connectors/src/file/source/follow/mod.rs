//! Files that grow, are renamed, truncated, copied, compressed and removed while they are followed, or while nobody looks.
//!
//! # What a file is
//!
//! Content, first seen in an inode: (device, inode, fingerprint of its first 1,024 bytes, or of all there are). Each is one split, named by a number,
//! read from its start (or where `from` says) by one reader.
//!
//! | what happens | what is done |
//! | --- | --- |
//! | renamed | the inode tells: read on |
//! | compressed, the original removed | the decompressed first bytes tell: read on at the same offset, to the end |
//! | copied and truncated | the split reads on in the copy, to the end; what now stands in the inode is a new split |
//! | smaller, or other first bytes | truncated: what now stands in the inode is a new split |
//! | removed | read to its end through the open file; if the process was down, nothing is left to read |
//! | removed and made anew | a new split, even where the inode is the same one |
//!
//! The enumerator alone decides what is a new split ([`enumerator`]); a reader finds where the content of its own split is now ([`locate`]).
//!
//! # Limits
//!
//! A file whose first bytes stay the same and which is not seen smaller was not truncated. A copy or a compressed file is recognised by 1,024 equal
//! bytes, or by fewer if it lies in the same folder and its name begins like the original's (`app.log`, `app.log.1.gz`); of a file whose first bytes
//! are those of its successor too (a header), and which is copied and truncated within `discoveryInterval` of its appearing, rows may come twice. As
//! many files can be followed as the process may have open. 100,000 files are known at most, 1,000 of them removed ones.

mod enumerator;
mod locate;
mod reader;
pub(super) mod tail;

pub(super) use enumerator::FollowEnumerator;
pub(super) use reader::FollowReader;
