//! A TOML document as a flat list of settings, each with where it stands.
//!
//! Numbers and truth values become text and arrays become lists with commas, so that a value reads
//! the same in a file, a label and an environment variable.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::source::Position;

/// One setting, or a table in which there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The names of the tables that it is in, and its own.
    pub path: Vec<String>,
    /// Its value; none for an empty table.
    pub text: Option<String>,
    /// Where its name stands.
    pub name_at: Position,
    /// Where its value stands.
    pub value_at: Position,
}

/// Why a document cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct SyntaxError {
    /// What is wrong, as the TOML parser says it.
    pub problem: String,
    /// Where.
    pub at: Position,
}

/// Every setting of the document, in the order in which it stands there.
///
/// # Errors
/// If the text is not TOML, or has a table within an array.
pub fn leaves(text: &str) -> Result<Vec<Leaf>, SyntaxError> {
    let document = DeTable::parse(text).map_err(|error| SyntaxError {
        problem: error.message().trim().replace('\n', ", "),
        at: Position::of_bytes(text, error.span().unwrap_or_default()),
    })?;
    let mut leaves = Vec::new();
    collect(text, &[], document.get_ref(), &mut leaves)?;
    leaves.sort_by_key(|leaf| leaf.name_at);
    Ok(leaves)
}

fn collect(
    text: &str,
    path: &[String],
    table: &DeTable<'_>,
    leaves: &mut Vec<Leaf>,
) -> Result<(), SyntaxError> {
    for (name, value) in table {
        let mut path = path.to_vec();
        path.push(name.get_ref().to_string());
        if let DeValue::Table(inner) = value.get_ref()
            && !inner.is_empty()
        {
            collect(text, &path, inner, leaves)?;
            continue;
        }
        let is_table = matches!(value.get_ref(), DeValue::Table(_));
        leaves.push(Leaf {
            path,
            text: if is_table { None } else { Some(written(text, value)?) },
            name_at: Position::of_bytes(text, name.span()),
            value_at: Position::of_bytes(text, value.span()),
        });
    }
    Ok(())
}

fn written(text: &str, value: &Spanned<DeValue<'_>>) -> Result<String, SyntaxError> {
    Ok(match value.get_ref() {
        DeValue::String(string) => string.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(entries) => {
            let entries: Result<Vec<String>, SyntaxError> =
                entries.iter().map(|entry| written(text, entry)).collect();
            entries?.join(",")
        }
        DeValue::Table(_) => {
            let problem = "a table within an array has no meaning here".to_owned();
            return Err(SyntaxError { problem, at: Position::of_bytes(text, value.span()) });
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> = match leaves(text) {
            Ok(leaves) => leaves
                .iter()
                .map(|leaf| {
                    let at = leaf.value_at;
                    let value = leaf.text.as_deref().unwrap_or("(empty)");
                    format!(
                        "{}={value} {}:{}+{}",
                        leaf.path.join("/"),
                        at.line,
                        at.column,
                        at.width
                    )
                })
                .collect(),
            Err(error) => vec![format!("{error} {}:{}", error.at.line, error.at.column)],
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn every_kind_of_value_becomes_text() {
        check(
            "b = true\na.x.y = 1_000\n[s.\"*.t\"]\nl = [\"p\", 2]\nf = 1.5\n[e]\n",
            &["b=true 1:5+4", "a/x/y=1000 2:9+5", "s/*.t/l=p,2 4:5+8", "f=1.5", "e=(empty) 6:1+3"]
                .map(|line| if line == "f=1.5" { "s/*.t/f=1.5 5:5+3" } else { line }),
        );
    }

    #[test]
    fn a_broken_document_says_where() {
        check("a = 1\nb = = 2\n", &["extra `=`, expected nothing 2:5"]);
        check("a = [{ b = 1 }]", &["a table within an array has no meaning here 1:6"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[a-c.=\\[\\]\"#,\\n 1{}ü]{0,40}") {
            let _ = leaves(&text);
        }
    }
}
