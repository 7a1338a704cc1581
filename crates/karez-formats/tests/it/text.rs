//! Lines of text.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema};
use karez_formats::text::TextDecoder;

#[test]
fn each_line_is_a_row_and_one_that_is_not_utf8_a_bad_record() {
    let schema = Arc::new(Schema::new(vec![Field::new("line", DataType::Utf8, false)]));
    let mut decoder = TextDecoder::try_new(schema).unwrap();
    decoder.track_offsets(true);
    let (text, mut errors) = (b"a\r\n\n\xff\xfe\nlast", Vec::new());
    assert_eq!(decoder.decode_lines(text, false, 10, &mut errors), 7);
    assert_eq!(decoder.decode_lines(&text[7..], true, 10, &mut errors), 4);
    assert_eq!(decoder.take_offsets(), [0, 3, 0]);
    let batch = decoder.flush().unwrap().unwrap();
    assert_eq!(batch.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a", "", "last"]);
    assert_eq!((errors[0].offset, errors[0].length), (4, 2));
}
