//! Who is asked about a change, and who is called when a person is needed.

use async_trait::async_trait;
use pushbutton_core::{Alarm, Changes, Job, Result, Standing};

use super::{Faulty, Method};

#[async_trait]
impl<T: Changes + ?Sized> Changes for Faulty<T> {
    async fn standing(&self, job: &Job) -> Result<Standing> {
        self.schedule.call(Method::Standing, self.inner.standing(job)).await
    }
}

#[async_trait]
impl<T: Alarm + ?Sized> Alarm for Faulty<T> {
    async fn raise(&self, subject: &str, text: &str) -> Result<()> {
        self.schedule.call(Method::Raise, self.inner.raise(subject, text)).await
    }
}
