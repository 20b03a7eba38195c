//! Where a thing stands in a text file, and how that is shown to the person who wrote it.

use std::fmt::Write as _;
use std::ops::Range;

/// A stretch of one line. Ordered by where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// How many characters on this line are meant, at least 1.
    pub width: usize,
}

impl Position {
    /// The position of a range of bytes, as far as it stands on its first line.
    pub fn of_bytes(text: &str, range: Range<usize>) -> Self {
        let before = text.get(..range.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let meant = text.get(range).unwrap_or_default();
        let meant = meant.lines().next().unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            width: meant.chars().count().max(1),
        }
    }
}

/// The line with carets under the part that is meant, in the manner of rustc:
///
/// ```text
///   --> stack.yml:7:23
///    |
///  7 |         hiveway.port: http
///    |                       ^^^^
/// ```
pub fn excerpt(file: &str, text: &str, at: Position) -> String {
    let number = at.line.to_string();
    let margin = " ".repeat(number.len() + 1);
    // A tab is as wide as the terminal likes, so it is shown as one space and the carets fit.
    let line: String = text
        .lines()
        .nth(at.line.saturating_sub(1))
        .unwrap_or_default()
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    let indent = " ".repeat(at.column.saturating_sub(1));
    let carets = "^".repeat(at.width);
    let mut shown = String::new();
    let _ = writeln!(shown, "{margin}--> {file}:{}:{}", at.line, at.column);
    let _ = writeln!(shown, "{margin} |");
    let _ = writeln!(shown, " {number} | {}", line.trim_end());
    let _ = writeln!(shown, "{margin} | {indent}{carets}");
    shown
}

/// The line below an [`excerpt`] that says what to write instead; nothing if there is no advice.
pub fn help(at: Position, advice: &str) -> String {
    if advice.is_empty() {
        return String::new();
    }
    let margin = " ".repeat(at.line.to_string().len() + 1);
    format!("{margin} = help: {advice}\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let text = "a: 1\nü: zwei\n";
        let at = |range| {
            let at = Position::of_bytes(text, range);
            (at.line, at.column, at.width)
        };
        assert_eq!(at(0..1), (1, 1, 1));
        assert_eq!(at(9..13), (2, 4, 4));
        assert_eq!(at(3..13), (1, 4, 1));
        assert_eq!(at(14..14), (3, 1, 1));
        assert_eq!(at(99..100), (3, 1, 1));
    }

    #[test]
    fn an_excerpt_points_at_what_is_meant() {
        let text = "services:\n  web:\n\t x: http";
        let at = Position { line: 3, column: 6, width: 4 };
        assert_eq!(
            excerpt("stack.yml", text, at),
            "  --> stack.yml:3:6\n   |\n 3 |   x: http\n   |      ^^^^\n"
        );
        assert_eq!(help(at, "write less"), "   = help: write less\n");
    }

    proptest! {
        #[test]
        fn any_range_of_any_text_has_a_position(text in "[aü\\n]{0,12}", start in 0_usize..16, len in 0_usize..8) {
            let at = Position::of_bytes(&text, start..start + len);
            prop_assert!(at.line >= 1 && at.column >= 1 && at.width >= 1);
            let _ = excerpt("x", &text, at);
        }
    }
}
