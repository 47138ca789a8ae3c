//! Medians and percentiles.

/// In ascending order.
pub(crate) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value that as many are below as above.
pub(crate) fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value that one in a hundred is above.
pub(crate) fn high(sorted: &[f64]) -> f64 {
    let above = sorted.len() / 100;
    sorted.len().checked_sub(above + 1).and_then(|index| sorted.get(index)).copied().unwrap_or(f64::NAN)
}

/// Lowest and highest.
pub(crate) fn range(sorted: &[f64]) -> (f64, f64) {
    let value = |found: Option<&f64>| found.copied().unwrap_or(f64::NAN);
    (value(sorted.first()), value(sorted.last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_is_above() {
        let values = sorted((1..=1000).rev().map(f64::from));
        assert_eq!(middle(&values), 501.0);
        assert_eq!(high(&values), 990.0);
        assert_eq!(range(&values), (1.0, 1000.0));
        assert_eq!(high(&[7.0]), 7.0);
        assert!(high(&[]).is_nan());
    }
}
