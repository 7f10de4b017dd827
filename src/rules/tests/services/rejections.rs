//! Every rejection and every warning that a service or its Prometheus can earn.

use super::*;

/// Checks that a text has exactly one mistake, at a line, which holds these parts.
fn rejected(text: &str, line: u32, parts: &[&str]) {
    let mistakes = match load_services(text) {
        Ok(_) => panic!("it should be rejected:\n{text}"),
        Err(errors) => listed(&errors),
    };
    assert_eq!(mistakes.lines().count(), 1, "{text}\n---\n{mistakes}");
    assert!(mistakes.starts_with(&format!("rules2.yaml:{line}:")), "{text}\n---\n{mistakes}");
    for part in parts {
        assert!(mistakes.contains(part), "{part}\n---\n{mistakes}");
    }
}

/// Checks that a text is accepted with exactly one warning.
fn warned(text: &str, line: u32, parts: &[&str]) {
    let (_, warnings) = load_services(text).unwrap_or_else(|errors| panic!("{text}\n---\n{errors}"));
    let [warning] = warnings.as_slice() else { panic!("{text}\n---\n{warnings:?}") };
    let warning = warning.to_string();
    assert!(warning.starts_with(&format!("rules2.yaml:{line}:")), "{warning}");
    for part in parts {
        assert!(warning.contains(part), "{part}\n---\n{warning}");
    }
}

#[test]
fn every_mistake_of_a_service_is_one_sentence_with_a_way_out() {
    let cases: &[(&str, &[&str])] = &[
        ("name: ''", &["services[0]: a service without a name"]),
        ("name: Inventory", &["name: 'Inventory' is no name of a service", "a-z, 0-9, _ and -"]),
        ("name: [a]", &["services[0].name: a list where a single value is needed"]),
        ("mode: on", &["services[0](inventory).mode: the boolean on where one of off, observe, enforce"]),
        ("mode: enforced", &["did you mean enforce?"]),
        ("bounds: {max: 0/s}", &["bounds.max: ", "a rate above zero"]),
        ("bounds: {max: 500}", &["bounds.max: the number 500 where a rate above zero, such as 500/s"]),
        (
            "bounds: {min: 0/s, max: 9/s}",
            &["bounds.min: ", "the text '0/s' where a rate above zero", "no sign of recovery"],
        ),
        ("bounds: {min: -1/s, max: 9/s}", &["bounds.min: ", "a rate above zero"]),
        ("bounds: {min: 9/s, max: 9/s}", &["bounds.min: the lowest limit 9/s is not below the highest 9/s"]),
        ("bounds: {min: 10/s, max: 9/s}", &["bounds.min: the lowest limit 10/s is not below the highest 9/s"]),
        ("bounds: {max: 6/m}", &["the lowest limit 0.2/s is not below the highest 0.1/s; write a min below it"]),
        ("bounds: {min: 1/s}", &["bounds: max is missing: write the rate that a healthy service is known to carry"]),
        ("bounds: 500/s", &["bounds: the text '500/s' where a map is needed"]),
        ("bounds: {max: 500/s, floor: 1/s}", &["unknown key 'floor': bounds knows min, max"]),
        ("start: 501/s", &["start: 501/s is outside the bounds; write a rate from 25/s to 500/s"]),
        ("start: 1/s", &["start: 1/s is outside the bounds"]),
        ("targets: {errors: 0.05%}", &["targets.errors: ", "a share from 0.1% to 50%, such as 5% or 0.05"]),
        ("targets: {errors: 51%}", &["targets.errors: ", "a share from 0.1% to 50%"]),
        ("targets: {errors: 5}", &["targets.errors: the number 5 where a share from 0.1% to 50%"]),
        (
            "targets: {latency: {above: 250ms}}",
            &["targets.latency: there is no share of slow answers", "{ above: 250ms, at_most: 10% }"],
        ),
        ("targets: {latency: {at_most: 10%}}", &["targets.latency: there is no threshold"]),
        ("targets: {latency: {}}", &["targets.latency: there is no threshold"]),
        ("targets: {latency: {p0: 250ms}}", &["targets.latency.p0: p0 is no quantile that can be missed"]),
        ("targets: {latency: {p100: 250ms}}", &["targets.latency.p100: p100 is no quantile that can be missed"]),
        ("targets: {latency: {p90: 1s, p99: 2s}}", &["targets.latency.p99: one quantile is judged"]),
        ("targets: {latency: {p90: 1s, above: 1s}}", &["a quantile and above with at_most say the same thing"]),
        ("targets: {latency: {q90: 1s}}", &["targets.latency.q90: unknown key 'q90'"]),
        ("targets: {latency: {above: 0s, at_most: 10%}}", &["targets.latency.above: ", "from 1ms to 1h"]),
        ("targets: {latency: {above: 1s, at_most: 100%}}", &["targets.latency.at_most: ", "above 0 and below 100%"]),
        ("targets: {latency: 250ms}", &["targets.latency: the text '250ms' where a map such as"]),
        ("interval: 500ms", &["interval: ", "from 1s to 1m"]),
        ("interval: 61s", &["interval: ", "from 1s to 1m"]),
        ("interval: 5.5", &["interval: the number 5.5 where a length of time from 1s to 1m"]),
        ("interval: 2s", &["interval: the interval of 2s is not above the timeout of prometheus, 2s (rules2.yaml:1)"]),
        ("scrape_interval: 2m", &["scrape_interval: ", "auto, or a length of time from 1s to 1m"]),
        ("propagation: 2m", &["propagation: ", "up to 1m"]),
        ("stale: {hold: 0s}", &["stale.hold: ", "above zero"]),
        ("stale: {decay: 0s}", &["stale.decay: ", "above zero"]),
        ("stale: {toward: 501/s}", &["stale.toward: 501/s is outside the bounds; write a rate from 25/s to 500/s"]),
        ("stale: {toward: min}", &["stale.toward: the text 'min' where max, or a rate above zero"]),
        ("brittle: very", &["brittle: ", "true or false"]),
        ("law: 2", &["law: the number 2 where a map such as { memory: 60s } is needed"]),
        ("law: {z: 0.5}", &["law.z: the number 0.5 where a number from 1 to 10 is needed"]),
        ("law: {step: [1]}", &["law.step: a list where a number from 0.01 to 1 is needed"]),
        ("law: {memory: 5}", &["law.memory: the number 5 where a length of time from 10s to 86400s is needed"]),
        ("law: {memory: 5s}", &["law.memory: the text '5s' where a length of time from 10s to 86400s is needed"]),
        ("law: {relearn_doublings: 1.5}", &["the number 1.5 where a whole number from 0 to 8 is needed"]),
        ("law: {memry: 60s}", &["law.memry: unknown constant 'memry': did you mean memory?"]),
        ("law: {golden_ratio: 1}", &["unknown constant 'golden_ratio': the law has slack, fast, fast_scrapes"]),
        ("gate: ruler", &["gate: the text 'ruler' where one of bucket, rule (did you mean rule?) is needed"]),
        ("signals: {preset: nginx}", &["signals.preset: ", "one of envoy, proxy, istio, histogram, custom"]),
        ("signals: {preset: reports}", &["signals.preset: ", "one of envoy, proxy, istio, histogram, custom"]),
        ("signals: {cluster: c}", &["signals: preset is missing: write one of envoy, proxy, istio"]),
        ("signals: {preset: envoy}", &["signals: the preset envoy needs cluster"]),
        ("signals: {preset: proxy}", &["signals: the preset proxy needs cluster"]),
        ("signals: {preset: istio}", &["signals: the preset istio needs service"]),
        ("signals: {preset: istio, service: s, reporter: x}", &["signals.reporter: ", "one of source, destination"]),
        (
            "signals: {preset: istio, service: s, cluster: c}",
            &["signals.cluster: the preset istio doesn't take cluster; it takes service, namespace, reporter, flush"],
        ),
        ("signals: {preset: histogram, error_match: 'a=\"b\"'}", &["signals: the preset histogram needs metric"]),
        ("signals: {preset: histogram, metric: m}", &["signals: the preset histogram needs error_match"]),
        (
            "signals: {preset: histogram, metric: m_bucket, error_match: 'a=\"b\"'}",
            &["signals.metric: a histogram is named without its ending: write m"],
        ),
        (
            "signals: {preset: histogram, metric: m, error_match: 'a=b'}",
            &["signals.error_match: the value of a isn't in quotes"],
        ),
        ("signals: {preset: histogram, metric: m, error_match: 'a=\"b\"', unit: us}", &["signals.unit: ", "s or ms"]),
        ("signals: {preset: envoy, cluster: c, match: '{a=\"b\"}'}", &["signals.match: no label and operator before"]),
        ("signals: {preset: envoy, cluster: c, limited_status: 200}", &["signals.limited_status: ", "400 to 599"]),
        ("signals: {preset: envoy, cluster: c, flush: 2m}", &["signals.flush: ", "up to 1m"]),
        ("signals: {preset: custom}", &["signals: the preset custom needs queries"]),
        ("signals: {preset: custom, queries: {failed: 'a[$window]'}}", &["signals.queries: queries need answered"]),
        ("signals: {preset: custom, queries: {answered: 'a[$window]'}}", &["signals.queries: queries need failed"]),
        (
            "signals: {preset: custom, queries: {answered: 'a[5m]', failed: 'a[$window]'}}",
            &["queries.answered: the query lacks $window"],
        ),
        (
            "signals: {preset: custom, queries: {answered: 'a[$window]', failed: 'sum(a[$window]'}}",
            &["queries.failed: a ( that nothing closes"],
        ),
        (
            "signals: {preset: custom, queries: {answered: 'a[$window]', failed: 'a[$window]', total: 1}}",
            &["unknown key 'total': queries knows answered, failed, slow, latency_sum"],
        ),
        ("governs: []", &["services[0](inventory): governs names no rule"]),
        ("governs: [{domain: shop}]", &["governs[0]: descriptor is missing"]),
        ("governs: [{descriptor: [{service: inventory}]}]", &["governs[0](service_inventory): domain is missing"]),
        ("governs: [{domain: shop, descriptor: []}]", &["governs[0].descriptor: 0 entries; a rule has 1 to 32"]),
        ("governs: [{domain: shop, descriptor: {service: inventory}}]", &["descriptor: a map where a list of entries"]),
        (
            "governs: [{domain: shop, descriptor: [service]}]",
            &["descriptor[0]: the text 'service' where one key with its value"],
        ),
        ("governs: [{domain: shop, descriptor: [{a: 1, b: 2}]}]", &["descriptor[0]: 2 keys; each entry is one key"]),
        ("governs: [{domain: shop, descriptor: [{a: 1.5}]}]", &["descriptor[0].a: the number 1.5"]),
        (
            "governs: [{domain: shoop, descriptor: [{service: inventory}]}]",
            &["no rule file has the domain 'shoop': did you mean 'shop'?"],
        ),
        (
            "governs: [{domain: shop, descriptor: [{service: inventary}]}]",
            &["no rule of domain 'shop' is 'service_inventary': did you mean 'service_inventory'?"],
        ),
        (
            "governs: [{domain: shop, descriptor: [{zzz: }]}]",
            &["no rule of domain 'shop' is 'zzz': it has 'service_inventory', 'service_order, user'", "and 1 more"],
        ),
        (
            "governs: [{domain: shop, descriptor: [{service: order}]}]",
            &["'service_order' has no rate_limit of its own"],
        ),
        (
            "governs: [{domain: shop, descriptor: [{user: }, {service: order}]}]",
            &["no rule of domain 'shop' is 'user, service_order'"],
        ),
    ];
    for (word, parts) in cases {
        rejected(&with(word), 3, parts);
    }
}

#[test]
fn what_a_service_needs_is_asked_for() {
    rejected(&without("name"), 3, &["services[0]: a service without a name"]);
    rejected(&without("governs"), 3, &["services[0](inventory): governs names no rule"]);
    rejected(&without("bounds"), 3, &["services[0](inventory).bounds: bounds.max is missing"]);
    rejected(&without("signals"), 3, &["services[0](inventory): signals is missing", "or set mode: off"]);
    let no_server = with(NAME).replace(PROMETHEUS, "\n");
    rejected(&no_server, 3, &["no file names a Prometheus to ask", "or set mode: off"]);
    let off = "mode: off";
    assert!(load_services(&with(off).replace(PROMETHEUS, "")).is_ok());
    assert_eq!(only(&with(off).replace(SIGNALS, "brittle: false")).source, None);
    let slow = "signals: {preset: custom, queries: {answered: 'a[$window]', failed: 'a[$window]'}}, targets: {latency: {p90: 1s}}";
    rejected(&with(slow), 3, &["signals.queries: queries need slow next to a latency target"]);
}

#[test]
fn two_services_have_two_names_and_no_rule_in_common() {
    let second = |name: &str, governs: &str| {
        format!("{}- {{name: {name}, mode: off, {BOUNDS}, governs: [{governs}]}}\n", with(NAME))
    };
    let order = "{domain: shop, descriptor: [{service: order}, {user: }]}";
    let inventory = "{domain: shop, descriptor: [{service: inventory}]}";
    assert_eq!(services(&second("order", order)).len(), 2);
    rejected(
        &second("inventory", order),
        4,
        &["services[1](inventory).name: rules2.yaml:3 has a service 'inventory' already"],
    );
    rejected(
        &second("order", inventory),
        4,
        &[
            "services[1](order).governs[0](service_inventory): ",
            "rules.yaml:4 is governed by the service 'inventory' (rules2.yaml:3) already",
        ],
    );
}

#[test]
fn every_mistake_of_a_prometheus_is_one_sentence_and_never_its_secret() {
    let cases: &[(&str, &[&str])] = &[
        ("{}", &["prometheus: url is missing", "http://prometheus:9090"]),
        ("{url: 'ftp://s3cret'}", &["url: an address that doesn't begin with http:// or https://"]),
        ("{url: 'prometheus:9090'}", &["url: an address that doesn't begin with http:// or https://"]),
        ("{url: 'http://'}", &["url: an address without a host"]),
        ("{url: 'http://u:s3cret@p:9090'}", &["url: an address with user or password in it", "basic_auth"]),
        ("{url: 'http://p:9090/?token=s3cret'}", &["url: an address with a query or fragment"]),
        ("{url: 'http://p:99999'}", &["url: 'http://p:99999' is no address"]),
        ("{url: 'http://a b'}", &["url: 'http://a b' is no address"]),
        ("{url: 'http://p', timeout: 0s}", &["timeout: ", "from 1ms to 1m"]),
        (
            "{url: 'http://p', bearer_token: s3cret, bearer_token_file: f}",
            &["bearer_token_file: bearer_token is given by value and by file"],
        ),
        (
            "{url: 'https://p', bearer_token: s3cret, basic_auth: {user: u, password: s3cret}}",
            &["basic_auth: bearer_token and basic_auth both say who we are"],
        ),
        ("{url: 'https://p', bearer_token: \"s3cret\\n\"}", &["bearer_token: it has letters that no header can carry"]),
        ("{url: 'https://p', bearer_token: [s3cret]}", &["bearer_token: a list where a single value is needed"]),
        ("{url: 'https://p', basic_auth: {user: u}}", &["basic_auth: password is missing"]),
        ("{url: 'https://p', basic_auth: {password: s3cret}}", &["basic_auth: user is missing"]),
        (
            "{url: 'https://p', basic_auth: {user: 'a:b', password: s3cret}}",
            &["basic_auth.user: a colon ends the user"],
        ),
        (
            "{url: 'https://p', basic_auth: {user: u, pasword: s3cret}}",
            &["unknown key 'pasword': did you mean 'password'?"],
        ),
        ("{url: 'http://p', ca_file: f}", &["ca_file: ca_file means nothing for an http address"]),
    ];
    for (prometheus, parts) in cases {
        let text = format!("prometheus: {prometheus}\n");
        rejected(&text, 1, parts);
        let errors = load_services(&text).unwrap_err().to_string();
        assert!(!errors.contains("s3cret"), "{errors}");
    }
    let twice = load_texts(&[RULES, PROMETHEUS, PROMETHEUS], false).unwrap_err();
    assert_eq!(
        listed(&twice),
        "rules3.yaml:1:13: prometheus: rules2.yaml:1 has a prometheus already; all services ask one, so keep either"
    );
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    warned(&with("bounds: {min: 300/s, max: 500/s}"), 3, &["bounds.min: 300/s is more than half of 500/s"]);
    let thin = format!("{BOUNDS_THIN}, scrape_interval: 2s");
    warned(
        &with(&thin),
        3,
        &["bounds: at the lowest limit 0.2/s there are 0.40 requests in a scrape interval of 2s", "a min of 0.5/s"],
    );
    let governs = |descriptor: &str| with(&format!("governs: [{{domain: shop, descriptor: [{descriptor}]}}]"));
    warned(&governs("{free: }"), 3, &["governs[0](free): rules.yaml:9 is unlimited"]);
    warned(&governs("{vip: }"), 3, &["governs[0](vip): rules.yaml:10 replaces other rules"]);
    warned(&governs("{plain: }"), 3, &["governs[0](plain): rules.yaml:10 replaces rules.yaml:11"]);
    let twice = "governs: [{domain: shop, descriptor: [{service: inventory}]}, {domain: shop, descriptor: [{service: inventory}]}]";
    warned(&with(twice), 3, &["governs[1](service_inventory): rules.yaml:4 is named already"]);
    warned(
        "prometheus: {url: 'http://p', bearer_token: s3cret}\n",
        1,
        &["prometheus: a token or password over http can be read on the way"],
    );
}

const BOUNDS_THIN: &str = "bounds: {max: 2/s}";

#[test]
fn a_file_of_services_alone_needs_no_domain_and_any_other_does() {
    for text in [PROMETHEUS, "services: []\n", "prometheus:\nservices:\n"] {
        assert!(load_texts(&[text], false).is_ok(), "{text}");
        assert!(load_services(text).unwrap().0.domain("shop").is_some(), "{text}");
    }
    for text in ["services: []\ndescriptors: [{key: a}]\n", "services: []\ncharging: each\n"] {
        rejected(text, 1, &["config file cannot have empty domain"]);
    }
    rejected("service: []\n", 1, &["config error, unknown key 'service'", "did you mean 'services'?"]);
}

#[test]
fn all_mistakes_come_at_once_and_a_rule_with_one_of_its_own_is_not_called_missing() {
    let text = format!(
        "{}domain: d\ndescriptors: [{{key: a, rate_limit: {{unit: hours, requests_per_unit: 1}}}}]\n",
        service(
            "name: x, bounds: {min: 9/s, max: 1/s}, start: 1, interval: 1s, signals: {preset: envoy}, \
                 governs: [{domain: d, descriptor: [{a: }]}, {domain: e, descriptor: [{a: }]}]"
        ),
    );
    let mistakes = listed(&load_services(&text).unwrap_err());
    for part in ["bounds.min: ", "start: ", "interval: ", "signals: ", "domain 'e'", "rate_limit.unit: "] {
        assert_eq!(mistakes.lines().filter(|line| line.contains(part)).count(), 1, "{part}\n---\n{mistakes}");
    }
    assert_eq!(mistakes.lines().count(), 6, "{mistakes}");
}
