//! The calendar: seconds since 1970 as a date in UTC.

/// A moment, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

impl Moment {
    pub fn of(seconds: f64) -> Moment {
        let whole = seconds as i64;
        let (days, rest) = (whole.div_euclid(86_400), whole.rem_euclid(86_400));
        // Days from the first of March of the year 0, in eras of 400 years, so that the leap day ends a year.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let moon = (5 * of_year + 2) / 153;
        let (month, next) = if moon < 10 { (moon + 3, 0) } else { (moon - 9, 1) };
        Moment {
            year: year + era * 400 + next,
            month,
            day: of_year - (153 * moon + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest % 3600 / 60,
            second: rest % 60,
        }
    }

    /// `2026-11-29T07:10:07`, with this between the parts of the time.
    pub fn iso(&self, colon: char) -> String {
        let Moment {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}{colon}{minute:02}{colon}{second:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(Moment::of(0.0).iso(':'), "1970-01-01T00:00:00");
        assert_eq!(Moment::of(951_782_400.0).iso(':'), "2000-02-29T00:00:00");
        assert_eq!(Moment::of(1_700_000_000.0).iso('-'), "2023-11-14T22-13-20");
        assert_eq!(Moment::of(1_795_936_207.9).iso(':'), "2026-11-29T07:10:07");
    }
}
