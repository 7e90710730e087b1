//! The handlers, and the route table: each file has its part of it beside them.

pub(crate) mod account;
pub(crate) mod address;
pub(crate) mod auth;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod pages;
pub(crate) mod recovery;
pub(crate) mod sessions;
pub(crate) mod sign_in;
pub(crate) mod totp;
mod well_known;

use super::route::Route;

/// Every route.
pub(crate) const TABLES: &[&[Route]] = &[
    sign_in::ROUTES,
    auth::ROUTES,
    sessions::ROUTES,
    account::ROUTES,
    totp::ROUTES,
    events::ROUTES,
    recovery::ROUTES,
    address::ROUTES,
    pages::ROUTES,
    well_known::ROUTES,
    health::ROUTES,
    docs::ROUTES,
];
