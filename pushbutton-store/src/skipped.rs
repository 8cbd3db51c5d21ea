//! A row that cannot be read, since the file is damaged or somebody edited it, must not hide the others.

use rusqlite::Row;

/// What one answer leaves out. It is one warning, however many rows there are.
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    count: u64,
    first: Option<(String, rusqlite::Error)>,
}

impl Skipped {
    /// The value; None, and counted, when it cannot be read. The first column names the row.
    pub(crate) fn readable<T>(&mut self, row: &Row<'_>, value: rusqlite::Result<T>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(error) => {
                self.count += 1;
                self.first.get_or_insert_with(|| (row.get(0).unwrap_or_default(), error));
                None
            }
        }
    }

    /// Logs that rows of this table were left out, if there are any.
    pub(crate) fn warn(self, table: &'static str) {
        if let Some((first, error)) = self.first {
            let count = self.count;
            tracing::warn!(
                table,
                count,
                first,
                "skipping rows that cannot be read, the first because: {error}"
            );
        }
    }
}
