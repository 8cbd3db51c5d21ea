use std::sync::Arc;

use async_trait::async_trait;
use pushbutton_core::{Journal, Node, NodeRequest, OwnedResource, Provisioner, Result, RunId};

use super::{Faulty, Method};

#[async_trait]
impl<T: Provisioner + ?Sized> Provisioner for Faulty<T> {
    async fn provision(&self, request: &NodeRequest, journal: &Arc<dyn Journal>) -> Result<Node> {
        self.schedule.call(Method::Provision, self.inner.provision(request, journal)).await
    }

    async fn release(&self, run: &RunId, journal: &Arc<dyn Journal>) -> Result<()> {
        self.schedule.call(Method::Release, self.inner.release(run, journal)).await
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        self.schedule.call(Method::ListOwned, self.inner.list_owned()).await
    }
}
