//! What somebody may have meant.

/// Names shown when none is near.
const SHOWN: usize = 8;

/// "did you mean ..." where a name is near, else some of what there is.
pub(crate) fn suggest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    let near = |name: &&&str| {
        let (a, b) = (wanted.to_lowercase(), name.to_lowercase());
        a.contains(&b) || b.contains(&a) || distance(&a, &b) <= 1 + a.len() / 5
    };
    let meant: Vec<&str> = names.iter().filter(near).take(3).copied().collect();
    if !meant.is_empty() {
        return format!("did you mean {}?", meant.join(" or "));
    }
    match names.len() {
        0 => "there are none at all".into(),
        1..=SHOWN => format!("there are {}", names.join(", ")),
        more => format!("there are {} and {} more", names[..SHOWN].join(", "), more - SHOWN),
    }
}

/// Insertions, deletions and substitutions from one to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let cost = corner + usize::from(left != *right);
            corner = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_else_what_there_is() {
        assert_eq!(suggest("m1.larg", ["m1.large", "m1.tiny"]), "did you mean m1.large?");
        assert_eq!(suggest("ubuntu", ["ubuntu-noble", "debian"]), "did you mean ubuntu-noble?");
        assert_eq!(suggest("gpu", ["m1.large", "m1.tiny"]), "there are m1.large, m1.tiny");
        assert_eq!(suggest("gpu", []), "there are none at all");
        let many: Vec<String> = (0..20).map(|n| format!("flavor-{n:02}")).collect();
        assert!(suggest("x", many.iter().map(String::as_str)).ends_with("and 12 more"));
    }
}
