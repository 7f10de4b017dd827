//! Adaptive limits in this process: the controller, beside the store that the settings chose.

use std::future::Future;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::StoreMaker;
use crate::control::command::commands;
use crate::control::record::{AnyRecords, LeaseTimes, MemoryRecords, RedisRecords, ReplicaId};
use crate::control::task::Controller;
use crate::prometheus::OpenPrometheus;
use crate::table::LimitTable;

/// Governs the services of the rules in force, until `stop`.
pub(super) fn govern(
    table: LimitTable,
    store: &StoreMaker,
    key_prefix: &[u8],
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let replica = ReplicaId::draw(&host_name());
    let records = records(store, key_prefix, &replica);
    let (_commands, wishes) = commands();
    let (controller, _view) = Controller::new(table, records, OpenPrometheus, replica, wishes);
    controller.run(stop)
}

/// Where the records of adaptive services are: beside the counters.
fn records(store: &StoreMaker, key_prefix: &[u8], replica: &ReplicaId) -> AnyRecords {
    match store {
        StoreMaker::Memory(store) => {
            AnyRecords::Memory(Arc::new(MemoryRecords::new(Arc::clone(store), key_prefix, replica.clone())))
        }
        StoreMaker::Redis(connector, _) => {
            let records = RedisRecords::new(connector.clone(), key_prefix, replica.clone(), LeaseTimes::default());
            AnyRecords::Redis(Arc::new(records))
        }
    }
}

/// What this machine is called, for people who ask which replica decides.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
