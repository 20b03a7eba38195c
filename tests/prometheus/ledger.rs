//! Counts by page and name.

use std::collections::BTreeMap;

/// What somebody saw. Pages are things like `requests`, names those of services, codes, and so on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(BTreeMap<(&'static str, String), u64>);

impl Ledger {
    /// Adds to a name on a page.
    pub(crate) fn count(&mut self, page: &'static str, name: &str, count: u64) {
        *self.0.entry((page, name.to_owned())).or_default() += count;
    }

    /// Adds what another one counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for ((page, name), count) in &other.0 {
            self.count(page, name, *count);
        }
    }

    /// A page without what is 0, in Prometheus's numbers: exact up to 2^53.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(crate) fn page(&self, page: &str) -> BTreeMap<String, f64> {
        let same = self.0.iter().filter(|((of, _), count)| *of == page && **count > 0);
        same.map(|((_, name), count)| (name.clone(), *count as f64)).collect()
    }
}
