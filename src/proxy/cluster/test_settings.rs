//! Settings with Envoy's defaults, for tests of this folder.

use std::time::Duration;

use http::{HeaderMap, Method};

use crate::proxy::bootstrap::model::{HealthCheck, OutlierDetection};

pub(super) fn outlier_detection() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 5,
        enforcing_consecutive_5xx: 100,
        consecutive_gateway_failure: 5,
        enforcing_consecutive_gateway_failure: 0,
        split_external_local_origin_errors: false,
        consecutive_local_origin_failure: 5,
        enforcing_consecutive_local_origin_failure: 100,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_time_jitter: Duration::ZERO,
        max_ejection_percent: 10,
        always_eject_one_host: false,
        successful_active_health_check_uneject_host: true,
        enforcing_success_rate: 100,
        enforcing_local_origin_success_rate: 100,
        success_rate_minimum_hosts: 5,
        success_rate_request_volume: 100,
        success_rate_stdev_factor: 1900,
        failure_percentage_threshold: 85,
        enforcing_failure_percentage: 0,
        enforcing_failure_percentage_local_origin: 0,
        failure_percentage_minimum_hosts: 5,
        failure_percentage_request_volume: 50,
    }
}

pub(super) fn health_check() -> HealthCheck {
    HealthCheck {
        timeout: Duration::from_secs(1),
        interval: Duration::from_secs(1),
        initial_jitter: Duration::ZERO,
        interval_jitter: Duration::ZERO,
        unhealthy_threshold: 2,
        healthy_threshold: 3,
        reuse_connection: true,
        no_traffic_interval: Duration::from_secs(60),
        unhealthy_interval: Duration::from_secs(2),
        unhealthy_edge_interval: Duration::from_secs(3),
        healthy_edge_interval: Duration::from_secs(4),
        host: String::new(),
        path: "/health".to_owned(),
        method: Method::GET,
        request_headers_to_add: HeaderMap::new(),
        expected_statuses: Vec::from([std::ops::Range { start: 200, end: 201 }]),
        retriable_statuses: Vec::new(),
    }
}
