//! One way to call every kind of adapter, wherever it runs.

use super::{Callbacks, Envelope};
use crate::{Error, Result};

/// A Model, Task or Judge behind its method names: in this process, behind layer 1, or in a worker.
pub trait Adapter: Send + Sync {
    /// Calls a method. One that the adapter doesn't know is answered with [`crate::Code::NOT_IMPLEMENTED`].
    fn call(&self, method: &str, input: Envelope, host: &dyn Callbacks) -> Result<Envelope>;
}

impl<A: Adapter + ?Sized> Adapter for Box<A> {
    fn call(&self, method: &str, input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
        (**self).call(method, input, host)
    }
}

impl<A: Adapter + ?Sized> Adapter for std::sync::Arc<A> {
    fn call(&self, method: &str, input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
        (**self).call(method, input, host)
    }
}

pub(crate) fn unknown_method(kind: &str, method: &str) -> Error {
    Error::not_implemented(format!("this {kind} doesn't know the method `{method}`"))
}
