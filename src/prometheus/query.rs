//! What Prometheus is asked about a service: one instant query for each window.
//!
//! All sums of a window come from one query, so that they are of one instant. Each term carries a label `q` that says
//! what it is, so that a term without series is missing in the answer and not zero:
//!
//! ```text
//!    label_replace(sum(increase(answers{…}[15s])), "q", "n", "", "")
//! or label_replace(sum(increase(answers{…, class 5}[15s])), "q", "k", "", "")
//! or …
//! ```
//!
//! Always `sum(increase())`: an increase of a sum takes a restart of one instance for a reset of all. All buckets of a
//! histogram are asked for, because the text of `le` differs between versions and is compared as text by Prometheus.
//!
//! **What must not be counted.** Answers that our own limits refused are in the proxy's statistics of the very service
//! that they protect: the more we refuse, the better it would look. Envoy has them in class 4, which is left out; where
//! it is told to answer with a 5xx, or to deny when we are out of reach, they are asked for apart and taken off.

use std::time::Duration;

use crate::rules::service::promql::{self, WINDOW_VARIABLE};
use crate::rules::service::{
    CustomSignals, EnvoySignals, HistogramSignals, IstioSignals, LatencyTarget, SignalSpec, Targets,
};

/// What a term of a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Term {
    /// Answers.
    Answered,
    /// Failed answers.
    Failed,
    /// Failed answers that the proxy gave without asking the service.
    FailedLocally,
    /// Answers that our own limits gave, among the failed ones.
    Ours,
    /// Answers by their time, cumulative.
    Bucket,
    /// Failed answers by their time, cumulative.
    FailedBucket,
    /// Slow answers, counted by the operator's own query.
    Slow,
    /// The sum of the answers' times.
    LatencySum,
    /// How many answers are in that sum.
    LatencyCount,
    /// The instant of the newest sample.
    Newest,
    /// How many series there are.
    Series,
}

/// How far back to look for the newest sample.
///
/// A plain selector wouldn't do: a single lost scrape ends a series until the next one, and what is left of it in a
/// range says nothing of when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Freshness {
    /// How far.
    pub(super) range: Duration,
    /// In which steps; below two scrape intervals, or a sample is overlooked.
    pub(super) step: Duration,
}

/// The query for one window, with the terms for freshness if they are asked for.
#[must_use]
pub(super) fn query(signals: &SignalSpec, targets: &Targets, window: Duration, freshness: Option<Freshness>) -> String {
    let latency = targets.latency.as_ref();
    let range = length(window);
    let mut terms = match signals {
        SignalSpec::Envoy(envoy) => of_envoy(envoy, latency, &range),
        SignalSpec::Istio(istio) => of_istio(istio, latency, &range),
        SignalSpec::Histogram(histogram) => of_histogram(histogram, latency, &range),
        SignalSpec::Custom(custom) => of_custom(custom, &range),
    };
    if let (Some(freshness), Some(selector)) = (freshness, selector(signals)) {
        let Freshness { range, step } = freshness;
        let newest = format!("max_over_time(timestamp({selector})[{}:{}])", length(range), length(step));
        terms.push((Term::Newest, format!("max({newest})")));
        terms.push((Term::Series, format!("count({newest})")));
    }
    let terms = terms.into_iter().map(|(term, expression)| labelled(term, &expression));
    terms.collect::<Vec<_>>().join("\nor ")
}

/// The series whose samples tell how old the answer is, and how often they come; `None` where an operator's own query
/// has no selector to be found.
#[must_use]
pub(super) fn selector(signals: &SignalSpec) -> Option<String> {
    Some(match signals {
        SignalSpec::Envoy(envoy) => of_class(envoy, "!=\"4\""),
        SignalSpec::Istio(istio) => format!("istio_requests_total{{{}}}", istio_answers(istio)),
        SignalSpec::Histogram(histogram) => selected(&histogram.metric, "_count", &[&histogram.matchers]),
        SignalSpec::Custom(custom) => promql::windowed_selector(&custom.answered)?.to_owned(),
    })
}

/// The series of failed answers, which exist only once an answer has failed; `None` for an operator's own query.
#[must_use]
pub(super) fn failed_selector(signals: &SignalSpec) -> Option<String> {
    Some(match signals {
        SignalSpec::Envoy(envoy) => of_class(envoy, "=\"5\""),
        SignalSpec::Istio(istio) => selected("istio_requests_total", "", &[&istio_answers(istio), ISTIO_FAILED]),
        SignalSpec::Histogram(HistogramSignals { metric, matchers, error_matchers, .. }) => {
            selected(metric, "_count", &[matchers, error_matchers])
        }
        SignalSpec::Custom(_) => return None,
    })
}

/// A text as PromQL quotes it.
#[must_use]
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A length of time as PromQL writes it.
#[must_use]
pub(super) fn length(time: Duration) -> String {
    let millis = time.as_millis().max(1);
    if millis.is_multiple_of(1_000) { format!("{}s", millis / 1_000) } else { format!("{millis}ms") }
}

fn labelled(term: Term, expression: &str) -> String {
    format!("label_replace({expression}, \"q\", \"{}\", \"\", \"\")", term.name())
}

fn increase(series: &str, range: &str) -> String {
    format!("sum(increase({series}[{range}]))")
}

/// What happens seldom has no series before: then it has not happened.
fn increase_or_zero(series: &str, range: &str) -> String {
    format!("({} or vector(0))", increase(series, range))
}

fn buckets(series: &str, range: &str) -> String {
    format!("sum by (le) (increase({series}[{range}]))")
}

/// A metric with an ending and matchers, of which empty ones are left out.
fn selected(metric: &str, ending: &str, matchers: &[&str]) -> String {
    let matchers: Vec<&str> = matchers.iter().copied().filter(|matchers| !matchers.is_empty()).collect();
    match matchers.as_slice() {
        [] => format!("{metric}{ending}"),
        some => format!("{metric}{ending}{{{}}}", some.join(",")),
    }
}

fn of_class(envoy: &EnvoySignals, class: &str) -> String {
    let class = format!("envoy_response_code_class{class}");
    selected("envoy_cluster_upstream_rq_xx", "", &[&envoy_cluster(envoy), &class])
}

fn envoy_cluster(envoy: &EnvoySignals) -> String {
    let cluster = format!("envoy_cluster_name={}", quote(&envoy.cluster));
    if envoy.matchers.is_empty() { cluster } else { format!("{cluster},{}", envoy.matchers) }
}

/// What Envoy counts of requests that it answered itself: two breakers, and nobody to send them to.
const NEVER_SENT: [&str; 3] =
    ["upstream_rq_pending_overflow", "upstream_rq_active_overflow", "upstream_cx_none_healthy"];

fn of_envoy(envoy: &EnvoySignals, latency: Option<&LatencyTarget>, range: &str) -> Vec<(Term, String)> {
    let cluster = envoy_cluster(envoy);
    let of_cluster = |name: &str| selected("envoy_cluster_", name, &[&cluster]);
    let or_zero = |name: &str| increase_or_zero(&of_cluster(name), range);
    let mut terms = vec![
        (Term::Answered, increase(&of_class(envoy, "!=\"4\""), range)),
        (Term::Failed, increase(&of_class(envoy, "=\"5\""), range)),
        (Term::FailedLocally, format!("({})", NEVER_SENT.map(or_zero).join(" + "))),
    ];
    let ours: Vec<String> =
        [(envoy.limited_status_is_5xx, "ratelimit_over_limit"), (envoy.failure_mode_deny, "ratelimit_error")]
            .into_iter()
            .filter(|(is_5xx, _)| *is_5xx)
            .map(|(_, name)| or_zero(name))
            .collect();
    if !ours.is_empty() {
        terms.push((Term::Ours, format!("({})", ours.join(" + "))));
    }
    if latency.is_some() {
        terms.push((Term::Bucket, buckets(&of_cluster("upstream_rq_time_bucket"), range)));
    }
    terms.push((Term::LatencySum, increase(&of_cluster("upstream_rq_time_sum"), range)));
    terms.push((Term::LatencyCount, increase(&of_cluster("upstream_rq_time_count"), range)));
    terms
}

const ISTIO_FAILED: &str = "response_code=~\"5..\"";

/// The requests that our limits let pass. Envoy's flags come one by one or as a list.
fn istio_answers(istio: &IstioSignals) -> String {
    let mut matchers =
        format!("destination_service_name={},reporter={}", quote(&istio.service), quote(&istio.reporter));
    if !istio.namespace.is_empty() {
        matchers.push_str(&format!(",destination_service_namespace={}", quote(&istio.namespace)));
    }
    matchers.push_str(",response_code!=\"429\",response_flags!~\"(.*,)?RL(,.*)?\"");
    matchers
}

fn of_istio(istio: &IstioSignals, latency: Option<&LatencyTarget>, range: &str) -> Vec<(Term, String)> {
    let answers = istio_answers(istio);
    let requests = |more: &[&str]| {
        let matchers: Vec<&str> = [answers.as_str()].into_iter().chain(more.iter().copied()).collect();
        increase(&selected("istio_requests_total", "", &matchers), range)
    };
    // Without the failed ones, which are often quick because nobody worked on them.
    let times =
        |ending: &str| selected("istio_request_duration_milliseconds", ending, &[&answers, "response_code!~\"5..\""]);
    let mut terms = vec![
        (Term::Answered, requests(&[])),
        (Term::Failed, requests(&[ISTIO_FAILED])),
        (Term::FailedLocally, requests(&[ISTIO_FAILED, "response_flags=~\"(.*,)?(UO|UH)(,.*)?\""])),
    ];
    if latency.is_some() {
        terms.push((Term::Bucket, buckets(&times("_bucket"), range)));
    }
    terms.push((Term::LatencySum, increase(&times("_sum"), range)));
    terms.push((Term::LatencyCount, increase(&times("_count"), range)));
    terms
}

fn of_histogram(histogram: &HistogramSignals, latency: Option<&LatencyTarget>, range: &str) -> Vec<(Term, String)> {
    let HistogramSignals { metric, matchers, error_matchers, .. } = histogram;
    let all = |ending: &str| selected(metric, ending, &[matchers]);
    let failed = |ending: &str| selected(metric, ending, &[matchers, error_matchers]);
    let mut terms =
        vec![(Term::Answered, increase(&all("_count"), range)), (Term::Failed, increase(&failed("_count"), range))];
    if latency.is_some() {
        terms.push((Term::Bucket, buckets(&all("_bucket"), range)));
        terms.push((Term::FailedBucket, buckets(&failed("_bucket"), range)));
    }
    terms.push((Term::LatencySum, increase(&all("_sum"), range)));
    terms.push((Term::LatencyCount, increase(&all("_count"), range)));
    terms
}

fn of_custom(custom: &CustomSignals, range: &str) -> Vec<(Term, String)> {
    let own = |query: &String| {
        // On lines of their own, so that a comment at the end of theirs ends with it.
        format!("(\n{}\n)", query.replace(WINDOW_VARIABLE, range))
    };
    let mut terms = vec![(Term::Answered, own(&custom.answered)), (Term::Failed, own(&custom.failed))];
    terms.extend(custom.slow.as_ref().map(|query| (Term::Slow, own(query))));
    terms.extend(custom.latency_sum.as_ref().map(|query| (Term::LatencySum, own(query))));
    terms
}

// === impl Term ===

impl Term {
    /// All terms.
    pub(super) const ALL: [Term; 11] = [
        Term::Answered,
        Term::Failed,
        Term::FailedLocally,
        Term::Ours,
        Term::Bucket,
        Term::FailedBucket,
        Term::Slow,
        Term::LatencySum,
        Term::LatencyCount,
        Term::Newest,
        Term::Series,
    ];

    /// The value of its label `q`.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Term::Answered => "n",
            Term::Failed => "k",
            Term::FailedLocally => "local",
            Term::Ours => "ours",
            Term::Bucket => "le",
            Term::FailedBucket => "le_k",
            Term::Slow => "slow",
            Term::LatencySum => "lat_sum",
            Term::LatencyCount => "lat_count",
            Term::Newest => "newest",
            Term::Series => "series",
        }
    }

    /// The term of that name.
    #[must_use]
    pub(super) fn from_name(name: &str) -> Option<Term> {
        Term::ALL.into_iter().find(|term| term.name() == name)
    }

    /// Whether it has a series for each bucket, and not one.
    #[must_use]
    pub(super) const fn is_by_bucket(self) -> bool {
        matches!(self, Term::Bucket | Term::FailedBucket)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn targets(latency: bool) -> Targets {
        let above = Duration::from_millis(250);
        Targets { errors: 0.05, latency: latency.then_some(LatencyTarget { above, at_most: 0.1 }) }
    }

    fn envoy() -> EnvoySignals {
        EnvoySignals {
            cluster: "shop".to_owned(),
            matchers: String::new(),
            limited_status_is_5xx: false,
            failure_mode_deny: false,
        }
    }

    const WINDOW: Duration = Duration::from_secs(15);

    #[test]
    fn the_envoy_preset_is_that_of_the_design() {
        let text = query(&SignalSpec::Envoy(envoy()), &targets(true), WINDOW, None);
        let expected = r#"label_replace(sum(increase(envoy_cluster_upstream_rq_xx{envoy_cluster_name="shop",envoy_response_code_class!="4"}[15s])), "q", "n", "", "")
or label_replace(sum(increase(envoy_cluster_upstream_rq_xx{envoy_cluster_name="shop",envoy_response_code_class="5"}[15s])), "q", "k", "", "")
or label_replace(((sum(increase(envoy_cluster_upstream_rq_pending_overflow{envoy_cluster_name="shop"}[15s])) or vector(0)) + (sum(increase(envoy_cluster_upstream_rq_active_overflow{envoy_cluster_name="shop"}[15s])) or vector(0)) + (sum(increase(envoy_cluster_upstream_cx_none_healthy{envoy_cluster_name="shop"}[15s])) or vector(0))), "q", "local", "", "")
or label_replace(sum by (le) (increase(envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="shop"}[15s])), "q", "le", "", "")
or label_replace(sum(increase(envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="shop"}[15s])), "q", "lat_sum", "", "")
or label_replace(sum(increase(envoy_cluster_upstream_rq_time_count{envoy_cluster_name="shop"}[15s])), "q", "lat_count", "", "")"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn what_our_own_limits_answer_with_a_5xx_is_asked_for_apart() {
        let of = |envoy: EnvoySignals| query(&SignalSpec::Envoy(envoy), &targets(false), WINDOW, None);
        assert!(!of(envoy()).contains("ratelimit"));
        let limited = of(EnvoySignals { limited_status_is_5xx: true, ..envoy() });
        assert!(limited.contains("ratelimit_over_limit") && !limited.contains("ratelimit_error"), "{limited}");
        let both = of(EnvoySignals { limited_status_is_5xx: true, failure_mode_deny: true, ..envoy() });
        assert!(both.contains("ratelimit_over_limit") && both.contains("ratelimit_error"), "{both}");
        assert!(!both.contains("_bucket"), "without a latency target no buckets are asked for");
    }

    #[test]
    fn a_label_value_can_say_anything_and_stays_one() {
        let cluster = "a\"}[1s]) or vector(1) or (\"\\\n\u{1}ö";
        let text = query(
            &SignalSpec::Envoy(EnvoySignals { cluster: cluster.to_owned(), ..envoy() }),
            &targets(false),
            WINDOW,
            None,
        );
        assert!(text.contains(r#"envoy_cluster_name="a\"}[1s]) or vector(1) or (\"\\\n\u0001ö","#), "{text}");
        assert!(!text.contains('\u{1}'));
    }

    #[test]
    fn further_matchers_are_beside_ours() {
        let matchers = "job=\"envoy\"".to_owned();
        let text = query(&SignalSpec::Envoy(EnvoySignals { matchers, ..envoy() }), &targets(false), WINDOW, None);
        assert_eq!(text.matches("{envoy_cluster_name=\"shop\",job=\"envoy\"").count(), 7, "{text}");
        let histogram = HistogramSignals {
            metric: "m".to_owned(),
            matchers: String::new(),
            error_matchers: "code=~\"5..\"".to_owned(),
            unit: Duration::from_secs(1),
        };
        let text = query(&SignalSpec::Histogram(histogram), &targets(true), WINDOW, None);
        assert!(text.contains("increase(m_count[15s])") && text.contains("m_bucket{code=~\"5..\"}[15s]"), "{text}");
    }

    #[test]
    fn a_window_takes_the_place_of_its_variable() {
        let custom = CustomSignals {
            answered: "sum(increase(a{b=\"[$\"}[$window])) # all".to_owned(),
            failed: "sum(increase(f[$window])) + sum(increase(g[$window]))".to_owned(),
            slow: None,
            latency_sum: None,
        };
        let freshness = Freshness { range: Duration::from_secs(30), step: Duration::from_millis(2_750) };
        let text = query(&SignalSpec::Custom(custom), &targets(false), Duration::from_millis(13_500), Some(freshness));
        assert!(text.contains("a{b=\"[$\"}[13500ms])) # all\n)"), "{text}");
        assert!(text.contains("increase(f[13500ms])) + sum(increase(g[13500ms]))"), "{text}");
        assert!(text.contains("max(max_over_time(timestamp(a{b=\"[$\"})[30s:2750ms]))"), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_is_quoted_ends_where_it_should(text in "[a\"\\\\\n'é{}]{0,12}") {
            let quoted = quote(&text);
            let mut escaped = false;
            let ends: Vec<usize> = quoted
                .char_indices()
                .skip(1)
                .filter(|(_, letter)| {
                    let ends = !escaped && *letter == '"';
                    escaped = !escaped && *letter == '\\';
                    ends
                })
                .map(|(at, _)| at)
                .collect();
            prop_assert_eq!(ends, vec![quoted.len() - 1]);
        }
    }
}
