//! A store in memory: for previews, which leave nothing behind, and for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use karez_core::Result;

use super::{Creation, DurableStore, checked};

/// Bytes by name, gone with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryStore {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DurableStore for MemoryStore {
    fn create(&self, name: &str, bytes: &Bytes) -> Result<Creation> {
        let mut objects = self.objects();
        if objects.contains_key(checked(name)?) {
            return Ok(Creation::Exists);
        }
        objects.insert(name.to_owned(), bytes.clone());
        Ok(Creation::Created)
    }

    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.objects().get(checked(name)?).cloned())
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let folder = format!("{}/", checked(folder)?);
        Ok(self.objects().range(folder.clone()..).map(|(name, _)| name).take_while(|n| n.starts_with(&folder)).cloned().collect())
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.objects().remove(checked(name)?);
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        format!("memory:{name}")
    }
}
