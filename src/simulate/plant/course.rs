//! A number over time: it stands, jumps and glides.

/// A number over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    start: f64,
    changes: Vec<Change>,
}

/// From an instant on, the number moves to another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// When it begins, in seconds.
    pub at: f64,
    /// Where it ends.
    pub to: f64,
    /// In how many seconds it gets there, in a straight line; 0 for at once.
    pub over: f64,
}

// === impl Course ===

impl Course {
    /// Always the same.
    #[must_use]
    pub fn constant(value: f64) -> Course {
        Course { start: value, changes: Vec::new() }
    }

    /// These changes, in the order of their instants.
    #[must_use]
    pub fn new(start: f64, changes: Vec<Change>) -> Course {
        Course { start, changes }
    }

    /// Also jumps to another value.
    #[must_use]
    pub fn jump(self, at: f64, to: f64) -> Course {
        self.glide(at, to, 0.0)
    }

    /// Also glides to another value.
    #[must_use]
    pub fn glide(mut self, at: f64, to: f64, over: f64) -> Course {
        self.changes.push(Change { at, to, over });
        self
    }

    /// The number at an instant. A change that begins before the last one has ended goes on from where that is.
    #[must_use]
    pub fn at(&self, seconds: f64) -> f64 {
        let mut value = self.start;
        let due = self.changes.iter().take_while(|change| change.at <= seconds);
        let ends = self.changes.iter().skip(1).map(|next| next.at).chain([f64::INFINITY]);
        for (change, end) in due.zip(ends) {
            let passed = seconds.min(end) - change.at;
            let share = if change.over > 0.0 { (passed / change.over).min(1.0) } else { 1.0 };
            value += (change.to - value) * share;
        }
        value
    }

    /// The highest value that it is on its way to, or starts from.
    #[must_use]
    pub fn highest(&self) -> f64 {
        self.changes.iter().map(|change| change.to).fold(self.start, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_stands_jumps_and_glides() {
        let course = Course::constant(10.0).jump(5.0, 20.0).glide(10.0, 0.0, 10.0);
        let at = [0.0, 4.9, 5.0, 9.0, 10.0, 15.0, 20.0, 99.0];
        assert_eq!(at.map(|seconds| course.at(seconds)), [10.0, 10.0, 20.0, 20.0, 20.0, 10.0, 0.0, 0.0]);
        assert_eq!(course.highest(), 20.0);
    }

    #[test]
    fn a_glide_that_is_cut_short_goes_on_from_where_it_is() {
        let course = Course::constant(0.0).glide(0.0, 10.0, 10.0).jump(5.0, 100.0).glide(6.0, 0.0, 100.0);
        assert_eq!([4.0, 5.0, 56.0].map(|seconds| course.at(seconds)), [4.0, 100.0, 50.0]);
    }
}
