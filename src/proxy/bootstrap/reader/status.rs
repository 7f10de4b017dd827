//! HTTP statuses: plain numbers, and the enumeration that limiting filters take.

use http::StatusCode;

use super::super::object::Object;
use super::super::value::Value;

/// A field with a status of the enumeration.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatusField {
    name: &'static str,
    /// Also what stands for codes below 400, which can't refuse anything.
    default: StatusCode,
}

/// `envoy.type.v3.StatusCode`.
const NAMES: [(&str, u16); 56] = [
    ("Continue", 100),
    ("OK", 200),
    ("Created", 201),
    ("Accepted", 202),
    ("NonAuthoritativeInformation", 203),
    ("NoContent", 204),
    ("ResetContent", 205),
    ("PartialContent", 206),
    ("MultiStatus", 207),
    ("AlreadyReported", 208),
    ("IMUsed", 226),
    ("MultipleChoices", 300),
    ("MovedPermanently", 301),
    ("Found", 302),
    ("SeeOther", 303),
    ("NotModified", 304),
    ("UseProxy", 305),
    ("TemporaryRedirect", 307),
    ("PermanentRedirect", 308),
    ("BadRequest", 400),
    ("Unauthorized", 401),
    ("PaymentRequired", 402),
    ("Forbidden", 403),
    ("NotFound", 404),
    ("MethodNotAllowed", 405),
    ("NotAcceptable", 406),
    ("ProxyAuthenticationRequired", 407),
    ("RequestTimeout", 408),
    ("Conflict", 409),
    ("Gone", 410),
    ("LengthRequired", 411),
    ("PreconditionFailed", 412),
    ("PayloadTooLarge", 413),
    ("URITooLong", 414),
    ("UnsupportedMediaType", 415),
    ("RangeNotSatisfiable", 416),
    ("ExpectationFailed", 417),
    ("MisdirectedRequest", 421),
    ("UnprocessableEntity", 422),
    ("Locked", 423),
    ("FailedDependency", 424),
    ("UpgradeRequired", 426),
    ("PreconditionRequired", 428),
    ("TooManyRequests", 429),
    ("RequestHeaderFieldsTooLarge", 431),
    ("InternalServerError", 500),
    ("NotImplemented", 501),
    ("BadGateway", 502),
    ("ServiceUnavailable", 503),
    ("GatewayTimeout", 504),
    ("HTTPVersionNotSupported", 505),
    ("VariantAlsoNegotiates", 506),
    ("InsufficientStorage", 507),
    ("LoopDetected", 508),
    ("NotExtended", 510),
    ("NetworkAuthenticationRequired", 511),
];

/// A plain number, from `min` to 599.
pub(super) fn code(value: &Value<'_>, min: u32) -> Option<StatusCode> {
    let code = value.count(min..=599)?;
    StatusCode::from_u16(u16::try_from(code).ok()?).ok()
}

/// `code` of an `HttpStatus`, by name or by number.
pub(super) fn read(config: &mut Object<'_>, field: StatusField) -> StatusCode {
    let status = config.object(field.name, |status| {
        let value = status.required("code")?;
        let named = NAMES.iter().find(|(name, code)| value.is_word(name) || value.is_word(&code.to_string()));
        if named.is_none() {
            value.mistake(format!("{} where a status such as TooManyRequests or 429 is needed", value.node.describe()));
        }
        StatusCode::from_u16(named?.1).ok()
    });
    let status = status.flatten().unwrap_or(field.default);
    if status.as_u16() < 400 { field.default } else { status }
}

// === impl StatusField ===

impl StatusField {
    /// Of the rate limit filter's refusals.
    pub(super) const RATE_LIMITED: StatusField =
        StatusField { name: "rate_limited_status", default: StatusCode::TOO_MANY_REQUESTS };
    /// Of its refusals because a call failed.
    pub(super) const ON_ERROR: StatusField =
        StatusField { name: "status_on_error", default: StatusCode::INTERNAL_SERVER_ERROR };
    /// Of the local rate limit filter's refusals.
    pub(super) const LOCAL: StatusField = StatusField { name: "status", default: StatusCode::TOO_MANY_REQUESTS };
}
