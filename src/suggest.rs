//! "Did you mean": the known word that a misspelt one is closest to.
//!
//! It knows nothing of labels or options; whoever has a list of words can ask.

/// The candidate that `written` most likely stands for; none if all are too far off.
///
/// One slip in three letters is forgiven, at least one, whatever the case of the letters. Of two
/// that are equally close the first is taken.
pub fn closest<'c>(
    written: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let written = written.to_lowercase();
    let forgiven = (written.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&written, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= forgiven)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be added, removed, replaced or swapped with their neighbour to make `a`
/// into `b` (Damerau and Levenshtein's distance in its restricted form: no letter is moved twice).
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut last = None;
    for (row, letter) in a.chars().enumerate() {
        let mut current = vec![row + 1];
        let mut left = row + 1;
        let mut previous = None;
        for (column, other) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX);
            let replaced = at(&above, column).saturating_add(usize::from(letter != *other));
            let mut best = replaced.min(at(&above, column + 1) + 1).min(left + 1);
            if last == Some(*other) && previous == Some(letter) && column > 0 {
                best = best.min(at(&before, column - 1).saturating_add(1));
            }
            current.push(best);
            left = best;
            previous = Some(*other);
        }
        before = above;
        above = current;
        last = Some(letter);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_of_slip_counts_once() {
        for (a, b, slips) in [
            ("", "", 0),
            ("", "abc", 3),
            ("weight", "weight", 0),
            ("wieght", "weight", 1),
            ("weigt", "weight", 1),
            ("weightt", "weight", 1),
            ("waight", "weight", 1),
            ("hsot", "host", 1),
            ("kitten", "sitting", 3),
            ("grüße", "grüsse", 2),
        ] {
            assert_eq!(distance(a, b), slips, "{a} {b}");
        }
    }

    #[test]
    fn a_slip_is_forgiven_and_a_different_word_is_not() {
        let words = ["host", "port", "path", "path-exact", "retry.attempts"];
        for (written, meant) in [
            ("hsot", Some("host")),
            ("Prot", Some("port")),
            ("pathexact", Some("path-exact")),
            ("retry.attemps", Some("retry.attempts")),
            ("middleware", None),
            ("", None),
        ] {
            assert_eq!(closest(written, words), meant, "{written}");
        }
    }

    proptest! {
        #[test]
        fn distance_is_the_same_in_both_directions_and_zero_only_for_equals(
            a in "[a-d]{0,8}", b in "[a-d]{0,8}",
        ) {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &b) <= a.len().max(b.len()));
        }
    }
}
