//! The filter that delays and aborts on purpose.

use std::sync::Arc;

use tokio::time::sleep;

use super::exchange::Exchange;
use super::reply::LocalReply;
use crate::proxy::access_log::ResponseFlag;
use crate::proxy::bootstrap::model::Fault;
use crate::proxy::matching::headers_match;

/// Delays the request, refuses it, or does nothing.
///
/// # Errors
/// The answer, if the request is aborted.
pub async fn inject(fault: &Fault, exchange: &mut Exchange) -> Result<(), Box<LocalReply>> {
    let is_meant = headers_match(&fault.headers, &exchange.head.borrow())
        && (fault.upstream_cluster.is_empty()
            || exchange.cluster.as_ref().is_some_and(|cluster| cluster.settings.name == fault.upstream_cluster));
    if !is_meant {
        return Ok(());
    }
    let stats = Arc::clone(&exchange.listener.stats);
    let is_one_more = || {
        let has_room = fault.max_active_faults.is_none_or(|max| stats.fault.active_faults.get() < u64::from(max));
        if !has_room {
            stats.fault.faults_overflow.increment();
        }
        has_room
    };
    if let Some(delay) = fault.delay
        && delay.percentage.includes(rand::random())
        && is_one_more()
    {
        let _active = stats.fault.active_faults.guard();
        stats.fault.delays_injected.increment();
        exchange.flags.set(ResponseFlag::DelayInjected);
        sleep(delay.fixed_delay).await;
    }
    if let Some(abort) = fault.abort
        && abort.percentage.includes(rand::random())
        && is_one_more()
    {
        stats.fault.aborts_injected.increment();
        let reply = LocalReply::new(abort.http_status, "fault filter abort", "fault_filter_abort");
        return Err(Box::new(reply.flag(ResponseFlag::FaultInjected)));
    }
    Ok(())
}
