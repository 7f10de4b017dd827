//! Outliers by rate: over an interval, who succeeded far less often than the others.

use std::net::SocketAddr;

use super::outlier::Reason;
use crate::proxy::bootstrap::model::OutlierDetection;

/// Requests to a host in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    /// All.
    pub(super) total: u32,
    /// Those without an error of class 5.
    pub(super) success: u32,
}

/// Whom the rates of an interval show to be an outlier.
///
/// The success rate of a host is an outlier's when it lies further below the mean than the standard deviation times a
/// factor; both judgements need enough hosts that had enough requests.
#[must_use]
#[allow(clippy::cast_precision_loss)] // counts of hosts
pub(super) fn outliers_of(settings: &OutlierDetection, rates: &[(SocketAddr, Rate)]) -> Vec<(SocketAddr, Reason)> {
    let with_volume = |volume: u32| -> Vec<(SocketAddr, f64)> {
        let enough = rates.iter().filter(|(_, rate)| rate.total > 0 && rate.total >= volume);
        enough.map(|(host, rate)| (*host, 100.0 * f64::from(rate.success) / f64::from(rate.total))).collect()
    };
    let mut outliers = Vec::new();
    let judged = with_volume(settings.success_rate_request_volume);
    if !judged.is_empty() && judged.len() >= settings.success_rate_minimum_hosts as usize {
        let mean = judged.iter().map(|(_, rate)| rate).sum::<f64>() / judged.len() as f64;
        let variance = judged.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / judged.len() as f64;
        let threshold = mean - variance.sqrt() * f64::from(settings.success_rate_stdev_factor) / 1000.0;
        let below = judged.iter().filter(|(_, rate)| *rate < threshold);
        outliers.extend(below.map(|(host, _)| (*host, Reason::SuccessRate)));
    }
    let judged = with_volume(settings.failure_percentage_request_volume);
    if !judged.is_empty() && judged.len() >= settings.failure_percentage_minimum_hosts as usize {
        let threshold = f64::from(settings.failure_percentage_threshold);
        let above = judged.iter().filter(|(_, rate)| 100.0 - rate >= threshold);
        outliers.extend(above.map(|(host, _)| (*host, Reason::FailurePercentage)));
    }
    outliers
}

#[cfg(test)]
mod tests {
    use super::super::test_settings::outlier_detection;
    use super::*;

    fn rates(success: &[u32]) -> Vec<(SocketAddr, Rate)> {
        let host = |index: usize| SocketAddr::from(([127, 0, 0, 1], u16::try_from(index).unwrap()));
        success
            .iter()
            .enumerate()
            .map(|(index, success)| (host(index), Rate { total: 100, success: *success }))
            .collect()
    }

    #[test]
    fn the_one_that_fails_far_more_often_than_the_others_is_an_outlier() {
        let outliers = outliers_of(&outlier_detection(), &rates(&[100, 99, 100, 98, 100, 50]));
        assert_eq!(
            outliers.iter().map(|(host, reason)| (host.port(), *reason)).collect::<Vec<_>>(),
            [(5, Reason::SuccessRate)]
        );
        assert_eq!(outliers_of(&outlier_detection(), &rates(&[100, 99, 50])), [], "three hosts are too few");
    }

    #[test]
    fn too_large_a_share_of_failures_is_noticed_too() {
        let outliers = outliers_of(&outlier_detection(), &rates(&[10, 10, 10, 10, 10]));
        assert_eq!(outliers.len(), 5);
        assert!(outliers.iter().all(|(_, reason)| *reason == Reason::FailurePercentage));
    }
}
