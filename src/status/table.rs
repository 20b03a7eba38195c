//! Columns of text as wide as their widest cell.

use std::io::{self, Write};

/// A column's heading, and to which side its cells go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// To the left.
    Text(&'static str),
    /// To the right.
    Number(&'static str),
}

impl Column {
    const fn heading(self) -> &'static str {
        match self {
            Self::Text(heading) | Self::Number(heading) => heading,
        }
    }
}

/// Writes headings and rows.
///
/// # Errors
/// If the output cannot be written.
pub(super) fn write_table<const N: usize>(
    out: &mut impl Write,
    columns: &[Column; N],
    rows: impl Iterator<Item = [String; N]>,
) -> io::Result<()> {
    let headings = columns.map(|column| column.heading().to_owned());
    let rows: Vec<_> = std::iter::once(headings).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let cells =
            columns.iter().zip(row).zip(widths).map(|((column, cell), width)| match column {
                Column::Text(_) => format!("{cell:<width$}"),
                Column::Number(_) => format!("{cell:>width$}"),
            });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
