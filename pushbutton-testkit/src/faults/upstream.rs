//! Who is asked about a change, and who is called when a person is needed.

use async_trait::async_trait;
use pushbutton_core::{Alerter, ChangeStatusLookup, Job, PatchsetStatus, Result};

use super::{Faulty, Method};

#[async_trait]
impl<T: ChangeStatusLookup + ?Sized> ChangeStatusLookup for Faulty<T> {
    async fn status(&self, job: &Job) -> Result<PatchsetStatus> {
        self.schedule.call(Method::ChangeStatus, self.inner.status(job)).await
    }
}

#[async_trait]
impl<T: Alerter + ?Sized> Alerter for Faulty<T> {
    async fn alert(&self, subject: &str, text: &str) -> Result<()> {
        self.schedule.call(Method::Alert, self.inner.alert(subject, text)).await
    }
}
