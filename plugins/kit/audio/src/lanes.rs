//! Vectors of one number from each of several frames, so that frames are computed in parallel.
//!
//! They are plain arrays with loops, compiled for the vector registers of the processor (`pulp::Arch::dispatch`).
//! Nothing is ever added across lanes, and no product is fused with a sum, so a frame's numbers depend neither on the
//! other frames nor on the processor.

use std::ops::{Add, Mul, Sub};

/// Frames that are computed together: the fp64 numbers of an AVX2 register.
pub(crate) const LANES: usize = 4;

#[derive(Clone, Copy, Default)]
#[repr(align(32))]
pub(crate) struct Lanes(pub [f64; LANES]);

impl Lanes {
    #[inline(always)]
    pub fn rounded(self) -> [f32; LANES] {
        let mut rounded = [0.0; LANES];
        for (rounded, value) in rounded.iter_mut().zip(self.0) {
            *rounded = value as f32;
        }
        rounded
    }
}

impl Add for Lanes {
    type Output = Lanes;

    #[inline(always)]
    fn add(mut self, other: Lanes) -> Lanes {
        for (this, other) in self.0.iter_mut().zip(other.0) {
            *this += other;
        }
        self
    }
}

impl Sub for Lanes {
    type Output = Lanes;

    #[inline(always)]
    fn sub(mut self, other: Lanes) -> Lanes {
        for (this, other) in self.0.iter_mut().zip(other.0) {
            *this -= other;
        }
        self
    }
}

impl Mul for Lanes {
    type Output = Lanes;

    #[inline(always)]
    fn mul(mut self, other: Lanes) -> Lanes {
        for (this, other) in self.0.iter_mut().zip(other.0) {
            *this *= other;
        }
        self
    }
}

impl Mul<f64> for Lanes {
    type Output = Lanes;

    #[inline(always)]
    fn mul(mut self, factor: f64) -> Lanes {
        for this in &mut self.0 {
            *this *= factor;
        }
        self
    }
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Complex {
    pub re: Lanes,
    pub im: Lanes,
}

impl Complex {
    #[inline(always)]
    pub fn of([re, im]: [Lanes; 2]) -> Complex {
        Complex { re, im }
    }

    #[inline(always)]
    pub fn conjugate(self) -> Complex {
        Complex {
            re: self.re,
            im: self.im * -1.0,
        }
    }

    /// Multiplied by -i.
    #[inline(always)]
    pub fn quarter_back(self) -> Complex {
        Complex {
            re: self.im,
            im: self.re * -1.0,
        }
    }

    #[inline(always)]
    pub fn power(self) -> Lanes {
        self.re * self.re + self.im * self.im
    }
}

impl Add for Complex {
    type Output = Complex;

    #[inline(always)]
    fn add(self, other: Complex) -> Complex {
        Complex {
            re: self.re + other.re,
            im: self.im + other.im,
        }
    }
}

impl Sub for Complex {
    type Output = Complex;

    #[inline(always)]
    fn sub(self, other: Complex) -> Complex {
        Complex {
            re: self.re - other.re,
            im: self.im - other.im,
        }
    }
}

/// Multiplied by a real number.
impl Mul<f64> for Complex {
    type Output = Complex;

    #[inline(always)]
    fn mul(self, factor: f64) -> Complex {
        Complex {
            re: self.re * factor,
            im: self.im * factor,
        }
    }
}

/// A number on the unit circle, by which all lanes are multiplied.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    cos: f64,
    sin: f64,
}

impl Turn {
    /// A clockwise turn by `parts` of `whole` parts of a circle, as in a forward transform.
    pub fn back(parts: usize, whole: usize) -> Turn {
        let angle = -std::f64::consts::TAU * (parts % whole) as f64 / whole as f64;
        Turn {
            cos: angle.cos(),
            sin: angle.sin(),
        }
    }
}

impl Mul<Turn> for Complex {
    type Output = Complex;

    #[inline(always)]
    fn mul(self, turn: Turn) -> Complex {
        Complex {
            re: self.re * turn.cos - self.im * turn.sin,
            im: self.im * turn.cos + self.re * turn.sin,
        }
    }
}
