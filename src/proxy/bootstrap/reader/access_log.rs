//! Access logs.

use super::super::model::{AccessLog, AccessLogSink};
use super::super::object::Object;
use super::super::value::Value;
use super::values;
use crate::proxy::access_log::{Format, JsonFormat, LineFormat};
use crate::rules::scalar::Kind;
use crate::rules::yaml;

const FILE: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";
const STDOUT: &str = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
const STDERR: &str = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog";

/// One element of `access_log`.
pub(super) fn read(value: &Value<'_>) -> Option<AccessLog> {
    value.object(|log| {
        log.text("name");
        let mut config = log.required("typed_config")?.open()?;
        let result = match config.type_name() {
            Some(FILE) => {
                let path = config.required_text("path");
                Some((AccessLogSink::File(path.into()), file_format(&mut config)))
            }
            Some(STDOUT) => Some((AccessLogSink::Stdout, stream_format(&mut config))),
            Some(STDERR) => Some((AccessLogSink::Stderr, stream_format(&mut config))),
            Some(other) => {
                config.unknown_type(other, &[FILE, STDOUT, STDERR]);
                None
            }
            None => None,
        };
        config.finish();
        let (sink, format) = result?;
        Some(AccessLog { sink, format: format? })
    })?
}

/// The format of a file: in `log_format`, or in the older `format` and `json_format`.
fn file_format(config: &mut Object<'_>) -> Option<LineFormat> {
    match config.one_of(&["log_format", "format", "json_format"]) {
        None => Some(LineFormat::Text(Format::default_line())),
        Some(("log_format", value)) => line_format(&value),
        Some(("format", value)) => values::format(&value).map(LineFormat::Text),
        Some((_, value)) => json_format(&value, false).map(LineFormat::Json),
    }
}

fn stream_format(config: &mut Object<'_>) -> Option<LineFormat> {
    match config.get("log_format") {
        None => Some(LineFormat::Text(Format::default_line())),
        Some(value) => line_format(&value),
    }
}

/// `SubstitutionFormatString`
fn line_format(value: &Value<'_>) -> Option<LineFormat> {
    value.object(|format| {
        let omit_empty_values = format.boolean("omit_empty_values", false);
        let text =
            |value: &Value<'_>| Some(LineFormat::Text(values::format(value)?.omit_empty_values(omit_empty_values)));
        match format.required_one_of(&["text_format_source", "text_format", "json_format"])? {
            ("text_format_source", value) => {
                value.object(|source| text(&source.required_one_of(&["inline_string"])?.1))?
            }
            ("text_format", value) => text(&value),
            (_, value) => json_format(&value, omit_empty_values).map(LineFormat::Json),
        }
    })?
}

fn json_format(value: &Value<'_>, omit_empty_values: bool) -> Option<JsonFormat> {
    let inner = |value: &Value<'_>| json_format(value, omit_empty_values);
    match &value.node.value {
        yaml::Value::Map(_) => {
            let pairs = value.entries();
            let pairs = pairs.iter().map(|(key, value)| Some(((*key).to_owned(), inner(value)?)));
            pairs.collect::<Option<_>>().map(JsonFormat::Object)
        }
        yaml::Value::List(_) => value.list_with_nulls().iter().map(inner).collect::<Option<_>>().map(JsonFormat::List),
        yaml::Value::Scalar(_, Kind::Null | Kind::Bool(_) | Kind::Int(_)) => Some(JsonFormat::Value(value.json())),
        yaml::Value::Scalar(..) => {
            values::format(value).map(|format| JsonFormat::Text(format.omit_empty_values(omit_empty_values)))
        }
    }
}
