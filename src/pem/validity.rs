//! Until when a certificate is valid, read from where it says so and nowhere else.
//!
//! A server's own certificate is checked by its clients only: the first that it hears of an end is that they all fail.
//! So the end is looked up here, to be told before. Certificate, TBSCertificate and Validity are sequences of DER
//! ([RFC 5280, section 4.1](https://www.rfc-editor.org/rfc/rfc5280#section-4.1)), and everything in front of the
//! second date is stepped over.

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

const DAY_SECONDS: i64 = 86_400;

/// Seconds since the epoch at which a certificate, in DER, stops being valid; `None` if it can't be read.
#[must_use]
pub fn ends_at(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = any_element(fields)?.2;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        fields = any_element(fields)?.2;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (tag, text, _) = any_element(any_element(validity)?.2)?;
    date(tag, text)
}

/// The content of the element at the beginning, which has that tag, and what is behind it.
fn element(bytes: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = any_element(bytes)?;
    (tag == expected).then_some((content, rest))
}

/// Tag and content of the element at the beginning, and what is behind it.
fn any_element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // The long form: so many bytes of length, the highest first.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `YYMMDDHHMMSSZ` of the years 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn date(tag: u8, text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    let number = |digits: &[u8]| -> Option<i64> {
        digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
    };
    let (year, digits) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let short = number(&digits[..2])?;
            (if short < 50 { 2_000 + short } else { 1_900 + short }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4])?, &digits[4..]),
        _ => return None,
    };
    let two = |at: usize| number(&digits[at..at + 2]);
    let (month, day, hour, minute, second) = (two(0)?, two(2)?, two(4)?, two(6)?, two(8)?);
    (1..=12).contains(&month).then(|| days(year, month, day) * DAY_SECONDS + hour * 3_600 + minute * 60 + second)
}

/// Days since the epoch. Years begin in March here, so that the day that is sometimes there is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_read_in_both_forms() {
        let read = |tag, text: &str| date(tag, text.as_bytes());
        assert_eq!(read(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(read(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(read(UTC_TIME, "500101000000Z"), Some(-631_152_000));
        assert_eq!(read(GENERALIZED_TIME, "20000229120000Z"), Some(951_825_600));
        assert_eq!(read(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        for (tag, wrong) in [
            (UTC_TIME, "20500101000000Z"),
            (UTC_TIME, "7001010000Z"),
            (UTC_TIME, "701301000000Z"),
            (GENERALIZED_TIME, "2000022912000xZ"),
            (GENERALIZED_TIME, "20000229120000"),
            (2, "700101000000Z"),
        ] {
            assert_eq!(read(tag, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_in_front_of_the_dates_is_stepped_over() {
        let der = |tag: u8, parts: &[&[u8]]| {
            let content = parts.concat();
            [&[tag, 0x82, (content.len() >> 8) as u8, content.len() as u8][..], &content].concat()
        };
        let dates = [der(UTC_TIME, &[b"200101000000Z"]), der(GENERALIZED_TIME, &[b"20300101000000Z"])].concat();
        let (version, serial) = (der(VERSION, &[&[2, 1, 2]]), der(2, &[&[7; 20]]));
        let (algorithm, issuer) = (der(SEQUENCE, &[]), der(SEQUENCE, &[&[0x31; 200]]));
        let validity = der(SEQUENCE, &[&dates]);
        for parts in [
            &[&version[..], &serial, &algorithm, &issuer, &validity][..],
            &[&serial[..], &algorithm, &issuer, &validity],
        ] {
            let certificate = der(SEQUENCE, &[&der(SEQUENCE, parts), &[5, 0]]);
            assert_eq!(ends_at(&certificate), Some(1_893_456_000));
            assert_eq!(ends_at(&certificate[..certificate.len() - 3]), None, "cut off");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_no_date_beyond_four_digits_of_year(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(ends_at(&bytes).is_none_or(|at| at < 300_000_000_000));
        }
    }
}
