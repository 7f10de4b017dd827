//! A run: services once, and for each stage a proxy, the load, and what was seen.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::{Instant, interval};

use super::adaptive::{self, Adaptive};
use super::configuration::{parse, token_rate, with_addresses};
use super::load::driver::{Load, Shared};
use super::load::profile::Profile;
use super::programs::{Programs, Services};
use super::progress::Progress;
use super::results::{Results, StageResults};
use super::stage::Stage;
use crate::bench::system::interrupt::Interrupt;
use crate::rules::{Action, Options, read_sources};

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// How long each lasts.
    pub length: Duration,
    /// How many times the inventory's capacity is asked for in the overload.
    pub overload: f64,
    /// The folder with `envoy/` and `rules/`.
    pub config: PathBuf,
    /// Whether the proxy is a real Envoy.
    pub envoy: bool,
    /// Decides when exactly calls come.
    pub seed: u64,
}

/// The rules that Tidegate decides by.
const RULES: &str = "rules/app_edge.yaml";

/// The rules of the adaptive stage.
const ADAPTIVE_RULES: &str = "rules/adaptive.yaml";

/// The service in them.
const SERVICE: &str = "inventory";

/// The domain of the global limit.
const DOMAIN: &str = "app_edge";

/// Slices of a stage in its plots.
const SLICES: u32 = 56;

/// How often progress is shown and an interrupt looked for.
const LOOK: Duration = Duration::from_millis(100);

// === impl Plan ===

impl Plan {
    /// Runs it.
    ///
    /// # Errors
    /// When a file is missing or wrong, a program doesn't start, or an interrupt comes. Everything that was started has
    /// ended then.
    pub fn run(&self, interrupt: &Interrupt) -> anyhow::Result<Results> {
        // Everything that can be wrong with the files is found before anything is started.
        let mut stages = self.stages.clone();
        if super::prometheus::installed().is_none() && stages.contains(&Stage::Adaptive) {
            stages.retain(|stage| *stage != Stage::Adaptive);
            eprintln!("the stage adaptive is left out: it asks a Prometheus, and there is none in PATH");
        }
        let files = stages.iter().map(|stage| Ok((*stage, self.file(*stage)?)));
        let files = files.collect::<anyhow::Result<Vec<(Stage, Value)>>>()?;
        let rules = self.config.join(RULES);
        let global_limit = global_limit(&rules)?;
        let programs = Programs::find(self.envoy)?;

        // On this thread, which lasts: the processes are tethered to the one that starts them.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _entered = runtime.enter();
        let mut progress = Progress::new(stages.len());
        let services = programs.start_services(&rules, interrupt)?;
        let plant = services.plant()?;
        let workers = plant["settings"]["workers"].as_u64().context("the inventory says its workers")?;
        let mut results = Results {
            capacity: plant["capacity"].as_f64().context("the inventory says its capacity")?,
            queue_max: plant["settings"]["queue_max"].as_f64().unwrap_or_default(),
            overload: self.overload,
            proxy: programs.proxy_name().to_owned(),
            tidegate: services.tidegate(),
            stages: Vec::new(),
        };
        progress.say(&self.describe(&results, &services));
        for (stage, file) in files {
            let limit = match stage {
                Stage::PassThrough | Stage::OutlierDetection => None,
                Stage::LocalLimit => token_rate(&file),
                Stage::GlobalLimit => Some(global_limit),
                Stage::Adaptive => None,
            };
            progress.begin(stage);
            let mut addresses = services.addresses.clone();
            let adaptive = match stage {
                Stage::Adaptive => {
                    Some(Adaptive::start(&programs, &self.config.join(ADAPTIVE_RULES), &services, interrupt)?)
                }
                _ => None,
            };
            if let Some(adaptive) = &adaptive {
                addresses.clusters.insert("tidegate", adaptive.tidegates.clone());
            }
            let bootstrap = with_addresses(stage.file(), file, &addresses)?;
            let proxy = programs.start_proxy(&bootstrap, &services.addresses, interrupt)?;
            let length = self.length * stage.lengths();
            let load = Load {
                target: format!("http://{}", services.addresses.listeners[0]),
                control: Some(services.control),
                profile: Profile::with_shares(results.capacity, self.overload, length, stage.shares()),
                seed: self.seed,
                // Rounded up: rounded down there would be a bit of another slice at the end.
                slice: length / SLICES + Duration::from_nanos(1),
            };
            let mut events = Events::new(&services, stage, &load.profile, workers, adaptive.is_some());
            let timeline = offer(&runtime, &load, &mut events, &mut progress, interrupt)?;
            let timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
            results.stages.push(StageResults::new(stage, limit, results.capacity, &load.profile, &timeline));
            services.set_workers(workers)?;
            drop(proxy);
            services.wait_until_idle(interrupt)?;
        }
        progress.clear();
        Ok(results)
    }

    fn file(&self, stage: Stage) -> anyhow::Result<Value> {
        let path = self.config.join("envoy").join(stage.file());
        let text = read(&path)?;
        Ok(parse(&path.display().to_string(), &text)?)
    }

    fn describe(&self, results: &Results, services: &Services) -> String {
        let addresses = &services.addresses;
        let at = |name: &str| {
            let addresses = addresses.clusters.get(name).into_iter().flatten();
            addresses.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let lengths: u32 = self.stages.iter().map(|stage| stage.lengths()).sum();
        let lines = [
            (
                "proxy",
                format!("http://{}  {}, admin http://{}", addresses.listeners[0], results.proxy, addresses.admin),
            ),
            ("tidegate", format!("{}  {}", at("tidegate"), results.tidegate)),
            ("user", at("user_service")),
            ("order", at("order_service")),
            ("inventory", format!("{}  plant at http://{}/plant", at("inventory_service"), services.control)),
            (
                "load",
                format!(
                    "{:.0} orders a second for an inventory that can do {:.0}, then {:.0}",
                    results.capacity * self.overload,
                    results.capacity,
                    results.capacity / 2.0
                ),
            ),
            ("time", format!("about {:.0} s", self.length.as_secs_f64() * lengths as f64 + 5.0)),
        ];
        lines.map(|(name, text)| format!("  {name:<10}{text}")).join("\n")
    }
}

/// Sends a stage's load and watches it.
fn offer(
    runtime: &Runtime,
    load: &Load,
    events: &mut Events<'_>,
    progress: &mut Progress,
    interrupt: &Interrupt,
) -> anyhow::Result<Shared> {
    let timeline = load.timeline();
    let started = Instant::now();
    let watching = async {
        let mut ticks = interval(LOOK);
        loop {
            ticks.tick().await;
            if let Err(interrupted) = interrupt.check() {
                return anyhow::Error::new(interrupted);
            }
            let limit = match events.follow(started.elapsed()) {
                Ok(limit) => limit,
                Err(error) => return error,
            };
            let mut timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(limit) = limit {
                timeline.limit(started.elapsed(), limit);
            }
            progress.show(&mut timeline, started.elapsed(), load.profile.length());
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = load.run(&timeline) => Ok(()),
            failed = watching => Err(failed),
        }
    })?;
    Ok(timeline)
}

/// What happens to the inventory in a stage, and the limit that answers it.
struct Events<'s> {
    services: &'s Services,
    /// When the inventory gets how many workers, the next one last.
    workers: Vec<(Duration, u64)>,
    is_adaptive: bool,
}

impl<'s> Events<'s> {
    fn new(services: &'s Services, stage: Stage, profile: &Profile, workers: u64, is_adaptive: bool) -> Events<'s> {
        let changes = stage.workers().iter().rev();
        let change = |(at, share): &(f64, f64)| {
            (profile.length().mul_f64(*at), (workers as f64 * share).round().max(1.0) as u64)
        };
        Events { services, workers: changes.map(change).collect(), is_adaptive }
    }

    /// Does what is due, and reads the limit where there is an adaptive one.
    fn follow(&mut self, now: Duration) -> anyhow::Result<Option<f64>> {
        while let Some((_, workers)) = self.workers.pop_if(|(at, _)| *at <= now) {
            self.services.set_workers(workers)?;
        }
        match &self.services.redis {
            Some(redis) if self.is_adaptive => adaptive::limit(redis, SERVICE),
            _ => Ok(None),
        }
    }
}

/// What the rules let through, in requests a second.
fn global_limit(path: &Path) -> anyhow::Result<f64> {
    let sources = read_sources(&[path.to_owned()]);
    let (rules, _) = sources.load(&Options::default()).map_err(|errors| anyhow::anyhow!("{}", errors.all()))?;
    let limit = rules.rules().iter().filter(|rule| *rule.domain == *DOMAIN).find_map(|rule| match rule.action {
        Action::Limited { limit, .. } => Some(limit),
        Action::Unlimited => None,
    });
    let Some(limit) = limit else { bail!("{}: the domain {DOMAIN:?} should have a limit", path.display()) };
    Ok(f64::from(limit.requests_per_unit) * 1_000.0 / limit.window.millis() as f64)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {} (--config names the folder)", path.display()))
}
