//! The route table. Each file of [`routes`](super::routes) has its part of it beside its handlers; mounting, `OPTIONS` and
//! `Allow`, the OpenAPI document and the tests of authorization all read it.

use actix_web::http::Method;
use actix_web::web;

use super::openapi::Operation;

/// One method of one path.
pub(crate) struct Route {
    /// What GET answers, HEAD answers too.
    pub(crate) method: Method,
    /// From the root, with parameters as in `/v1/sessions/{id}`.
    pub(crate) path: &'static str,
    /// What answers.
    pub(crate) handler: fn() -> actix_web::Route,
    /// What the OpenAPI document says of it.
    pub(crate) operation: fn() -> Operation,
}

impl Route {
    /// A route.
    pub(crate) const fn new(
        method: Method,
        path: &'static str,
        handler: fn() -> actix_web::Route,
        operation: fn() -> Operation,
    ) -> Self {
        Self { method, path, handler, operation }
    }
}

/// The routes of one path.
pub(crate) struct Path {
    pub(crate) path: &'static str,
    pub(crate) routes: Vec<&'static Route>,
}

impl Path {
    /// As it is mounted in a scope of this prefix. A resource answers other methods with 405 and `Allow` by itself, which
    /// `App::route` does not.
    pub(crate) fn resource(&self, prefix: &str) -> actix_web::Resource {
        let resource = web::resource(self.path.strip_prefix(prefix).unwrap_or(self.path));
        self.routes.iter().fold(resource, |resource, route| {
            let resource = resource.route((route.handler)().method(route.method.clone()));
            if route.method == Method::GET { resource.route((route.handler)().method(Method::HEAD)) } else { resource }
        })
    }
}

/// The paths of a table, in its order.
pub(crate) fn paths(tables: &[&'static [Route]]) -> Vec<Path> {
    let mut paths: Vec<Path> = Vec::new();
    for route in tables.iter().copied().flatten() {
        match paths.iter_mut().find(|path| path.path == route.path) {
            Some(path) => path.routes.push(route),
            None => paths.push(Path { path: route.path, routes: vec![route] }),
        }
    }
    paths
}
