use async_trait::async_trait;
use pushbutton_core::{Reporter, Result, Update};

use super::{Faulty, Method};

#[async_trait]
impl<T: Reporter + ?Sized> Reporter for Faulty<T> {
    async fn report(&self, update: &Update) -> Result<()> {
        self.schedule.call(Method::Report, self.inner.report(update)).await
    }

    fn name(&self) -> &str {
        self.inner.name()
    }
}
