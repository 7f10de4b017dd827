//! Where this process has its rules from: files that it looks at again and again, or a server that tells them.
//!
//! Either way there is one writer of the table. Files must be right for a start; a server may be away, and what it tells
//! may be wrong: a process waits for its first word, or starts without rules where the settings say so.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{StartError, count};
use crate::metrics::Metrics;
use crate::reload::{BUILT_IN, Loaded, Reloader};
use crate::rules::Options;
use crate::settings::{RuleSource, RulesSettings, Settings};
use crate::table::{LimitTable, TableWriter};
use crate::xds::{XdsClient, XdsServer};

/// Where the rules come from.
#[derive(Debug)]
pub(super) enum RulesFrom {
    Files(Box<FromFiles>),
    Xds(Told),
}

#[derive(Debug)]
pub(super) struct FromFiles {
    paths: Vec<PathBuf>,
    reload_interval: Duration,
    reloader: Reloader,
    loaded: Loaded,
}

/// Rules that a server tells. The client runs from the start on, and ends when this is dropped.
#[derive(Debug)]
pub(super) struct Told {
    /// Who tells them, and as whom they are asked for.
    described: String,
    client: JoinHandle<()>,
    end: DropGuard,
}

/// The rules of a process that was told of none and finds none: it starts, and shows what it does.
const EXAMPLE: &str = include_str!("../../config/rules.yaml");

// === impl RulesFrom ===

impl RulesFrom {
    /// Loads the first rules, or waits for them, unless a start without is wanted.
    pub(super) async fn open(
        rules: &RulesSettings,
        writer: TableWriter,
        metrics: &Metrics,
    ) -> Result<RulesFrom, StartError> {
        let options = Options { defaults: rules.defaults, merge_domains: rules.merge_domains };
        match &rules.source {
            RuleSource::Files => {
                let paths = rules.paths.clone();
                let built_in = (paths == Settings::default().rules.paths).then_some(EXAMPLE);
                let mut reloader = Reloader::new(paths.clone(), built_in, options, writer, metrics.clone());
                let loaded = reloader.load_first()?;
                let reload_interval = rules.reload_interval;
                Ok(RulesFrom::Files(Box::new(FromFiles { paths, reload_interval, reloader, loaded })))
            }
            RuleSource::Xds(xds) => {
                let XdsServer { address, node_id, .. } = &xds.server;
                let described = format!("xDS server {address}, for {node_id}");
                let (client, first) = XdsClient::new(xds.server.clone(), options, writer, metrics.clone());
                let end = CancellationToken::new();
                let client = tokio::spawn(client.run(end.clone()));
                let told = Told { described, client, end: end.drop_guard() };
                if !xds.start_without_rules {
                    tracing::info!(
                        "no port is opened before the xDS server {address} has told rules \
                         (rules.xds.start_without_rules is false)"
                    );
                    first.told().await;
                }
                Ok(RulesFrom::Xds(told))
            }
        }
    }

    /// Keeps the rules up to date until `stop`.
    pub(super) async fn follow(self, stop: CancellationToken) {
        match self {
            RulesFrom::Files(files) => files.reloader.run(files.reload_interval, stop).await,
            RulesFrom::Xds(Told { client, end, .. }) => {
                stop.cancelled().await;
                drop(end);
                drop(client.await);
            }
        }
    }

    /// A line for the start: where from, and how many.
    pub(super) fn line(&self, table: &LimitTable) -> String {
        match self {
            RulesFrom::Files(files) => {
                let Loaded { files: many, domains, rules, is_built_in, .. } = files.loaded;
                let paths: Vec<String> = files.paths.iter().map(|path| path.display().to_string()).collect();
                let mut paths = paths.join(", ");
                if is_built_in {
                    paths = format!("{BUILT_IN} (there is no {paths})");
                }
                format!("{paths}  {}, {}, {}", count(many, "file"), count(domains, "domain"), count(rules, "rule"))
            }
            RulesFrom::Xds(told) => {
                let told = &told.described;
                match table.load() {
                    None => format!("{told}  none yet: requests are answered with an error until there are"),
                    Some(snapshot) => {
                        let (domains, rules) = (snapshot.rules.domains().count(), snapshot.rules.rules().len());
                        format!("{told}  {}, {}", count(domains, "domain"), count(rules, "rule"))
                    }
                }
            }
        }
    }
}
