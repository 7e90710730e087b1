//! Latencies, medians, and numbers that people can read.

use std::time::Duration;

/// How long each of many requests took.
#[derive(Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    /// Adds many; then [`Latencies::sort`].
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Puts them in order, which percentiles need.
    pub fn sort(&mut self) {
        self.0.sort_unstable();
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many took no longer than this.
    pub fn within(&self, bound: Duration) -> usize {
        self.0.partition_point(|latency| *latency <= bound)
    }

    /// So many thousandths took no longer than this.
    pub fn permille(&self, permille: usize) -> Duration {
        let at = (self.0.len() * permille).div_ceil(1000).saturating_sub(1);
        self.0.get(at).copied().unwrap_or_default()
    }
}

/// The middle one; of an even number, the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let (low, high) = (values.get(middle.saturating_sub(1)), values.get(middle));
    match (low, high) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (_, Some(high)) => *high,
        _ => f64::NAN,
    }
}

/// A count as a number to divide.
pub fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A duration in milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// `12,345`; small ones with a digit or two behind the point.
pub fn grouped(value: f64) -> String {
    if value < 100.0 {
        return if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") };
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
