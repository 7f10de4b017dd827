//! Outlier detection.

use std::time::Duration;

use super::super::model::OutlierDetection;
use super::super::object::Object;

const SECOND: Duration = Duration::from_secs(1);

/// The fields of the message.
pub(super) fn read(object: &mut Object<'_>) -> OutlierDetection {
    let mut count = |name, default| object.count(name, 0..=u32::MAX, default);
    let consecutive_5xx = count("consecutive_5xx", 5);
    let consecutive_gateway_failure = count("consecutive_gateway_failure", 5);
    let consecutive_local_origin_failure = count("consecutive_local_origin_failure", 5);
    let success_rate_minimum_hosts = count("success_rate_minimum_hosts", 5);
    let success_rate_request_volume = count("success_rate_request_volume", 100);
    let success_rate_stdev_factor = count("success_rate_stdev_factor", 1900);
    let failure_percentage_minimum_hosts = count("failure_percentage_minimum_hosts", 5);
    let failure_percentage_request_volume = count("failure_percentage_request_volume", 50);
    let mut percent = |name, default| object.count(name, 0..=100, default);
    let max_ejection_percent = percent("max_ejection_percent", 10);
    let failure_percentage_threshold = percent("failure_percentage_threshold", 85);
    let enforcing_consecutive_5xx = percent("enforcing_consecutive_5xx", 100);
    let enforcing_consecutive_gateway_failure = percent("enforcing_consecutive_gateway_failure", 0);
    let enforcing_consecutive_local_origin_failure = percent("enforcing_consecutive_local_origin_failure", 100);
    let enforcing_success_rate = percent("enforcing_success_rate", 100);
    let enforcing_local_origin_success_rate = percent("enforcing_local_origin_success_rate", 100);
    let enforcing_failure_percentage = percent("enforcing_failure_percentage", 0);
    let enforcing_failure_percentage_local_origin = percent("enforcing_failure_percentage_local_origin", 0);
    let mut positive = |name, default| object.optional_duration(name, Duration::from_nanos(1)).unwrap_or(default);
    let interval = positive("interval", 10 * SECOND);
    let base_ejection_time = positive("base_ejection_time", 30 * SECOND);
    let max_ejection_time = positive("max_ejection_time", base_ejection_time.max(300 * SECOND));
    if max_ejection_time < base_ejection_time {
        object.value.mistake("max_ejection_time is shorter than base_ejection_time");
    }
    OutlierDetection {
        consecutive_5xx,
        enforcing_consecutive_5xx,
        consecutive_gateway_failure,
        enforcing_consecutive_gateway_failure,
        split_external_local_origin_errors: object.boolean("split_external_local_origin_errors", false),
        consecutive_local_origin_failure,
        enforcing_consecutive_local_origin_failure,
        interval,
        base_ejection_time,
        max_ejection_time,
        max_ejection_time_jitter: object.duration("max_ejection_time_jitter", Duration::ZERO),
        max_ejection_percent,
        always_eject_one_host: object.boolean("always_eject_one_host", false),
        successful_active_health_check_uneject_host: object
            .boolean("successful_active_health_check_uneject_host", true),
        enforcing_success_rate,
        enforcing_local_origin_success_rate,
        success_rate_minimum_hosts,
        success_rate_request_volume,
        success_rate_stdev_factor,
        failure_percentage_threshold,
        enforcing_failure_percentage,
        enforcing_failure_percentage_local_origin,
        failure_percentage_minimum_hosts,
        failure_percentage_request_volume,
    }
}
