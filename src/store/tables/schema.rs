//! The tables, as both databases have them. Written by hand; tests hold it to the migrations.

diesel::table! {
    /// Accounts.
    users (id) {
        /// UUID, 16 bytes.
        id -> Binary,
        /// As it was registered.
        email -> Text,
        /// As it is compared; unique.
        email_key -> Text,
        /// What the user is called.
        name -> Nullable<Text>,
        /// Tagged bcrypt.
        password_hash -> Text,
        /// JSON array of names.
        roles -> Text,
        /// Whether the address was proven.
        email_verified -> Bool,
        /// Microseconds since 1970.
        created_at -> BigInt,
        /// Microseconds since 1970.
        updated_at -> BigInt,
        /// Microseconds since 1970.
        last_login_at -> Nullable<BigInt>,
        /// Microseconds since 1970; null: enabled.
        disabled_at -> Nullable<BigInt>,
        /// 1: `email_key` is as addresses are compared now; 0: as earlier versions compared them.
        email_key_version -> BigInt,
        /// The secret of the second factor, sealed.
        totp_secret -> Nullable<Binary>,
        /// The name of the refresh key whose secret opens it.
        totp_sealed_under -> Nullable<Text>,
        /// Microseconds since 1970; null: there is none, or it waits to be confirmed.
        totp_enabled_at -> Nullable<BigInt>,
        /// The time step of the code that was accepted last.
        totp_step -> Nullable<BigInt>,
        /// JSON object: what an operator has access tokens say besides.
        claims -> Nullable<Text>,
        /// Whether the address was registered again before it was proven.
        contested -> Bool,
    }
}

diesel::table! {
    /// Signed-in devices; see `docs/rotation.md` for the columns that a refresh writes.
    sessions (id) {
        /// UUID, 16 bytes.
        id -> Binary,
        /// UUID, 16 bytes; the user may be gone.
        user_id -> Binary,
        /// Rotations so far.
        generation -> BigInt,
        /// Recoveries of this generation so far.
        branch -> BigInt,
        /// SHA-256 of the current refresh token.
        token_hash -> Binary,
        /// SHA-256 of the token it was exchanged for.
        previous_hash -> Nullable<Binary>,
        /// What the current token was derived with, 16 bytes.
        salt -> Binary,
        /// The key the current token was derived and signed with.
        key_id -> Text,
        /// When this generation began.
        rotated_at -> BigInt,
        /// When this branch began.
        branched_at -> BigInt,
        /// When the client said it had stored the current token.
        confirmed_at -> Nullable<BigInt>,
        /// When the newest access token ends.
        access_expires_at -> BigInt,
        /// When the current refresh token ends.
        idle_expires_at -> BigInt,
        /// When the session ends however often it is refreshed.
        expires_at -> BigInt,
        /// When it was ended.
        revoked_at -> Nullable<BigInt>,
        /// Why.
        revoked_reason -> Nullable<Text>,
        /// JSON array of names.
        roles -> Text,
        /// `body` or `cookie`.
        transport -> Text,
        /// Generations running in which an overlap was answered to a second address.
        repeat_streak -> BigInt,
        /// The generation that counted last.
        streak_generation -> BigInt,
        /// As the client named it.
        device_name -> Nullable<Text>,
        /// Of the last refresh.
        user_agent -> Nullable<Text>,
        /// Of the last refresh.
        ip_address -> Nullable<Text>,
        /// Microseconds since 1970.
        created_at -> BigInt,
        /// Microseconds since 1970.
        last_used_at -> BigInt,
        /// Whether its idle time is the long one.
        remember -> Bool,
        /// The key that the token with `previous_hash` was signed with. None: it is the first, or from before this column.
        previous_key_id -> Nullable<Text>,
        /// Whether it began with a second factor.
        mfa -> Bool,
        /// JSON object: a copy of the user's.
        claims -> Nullable<Text>,
    }
}

diesel::table! {
    /// What stands in for a code of the second factor, once each.
    recovery_codes (user_id, hash) {
        /// UUID, 16 bytes.
        user_id -> Binary,
        /// SHA-256.
        hash -> Binary,
    }
}

diesel::table! {
    /// Users of whom more sessions have ended than one transaction marks; see `store::sessions::ends`.
    session_ends (id) {
        /// UUID, 16 bytes.
        id -> Binary,
        /// UUID, 16 bytes; the user may be gone.
        user_id -> Binary,
        /// Sessions with an id up to this one have ended.
        last_session -> Binary,
        /// Microseconds since 1970.
        ended_at -> BigInt,
        /// But this one goes on.
        kept_session -> Nullable<Binary>,
        /// Why.
        reason -> Text,
        /// From where.
        ip_address -> Nullable<Text>,
        /// Whether nothing personal is to stay.
        erase -> Bool,
    }
}

diesel::table! {
    /// How often something has been tried lately.
    attempts (key) {
        /// Digest of what is counted, 16 bytes.
        key -> Binary,
        /// So often in this window.
        count -> BigInt,
        /// Microseconds since 1970.
        window_ends_at -> BigInt,
        /// So many of them count for the account, too, in the window that ends at `account_ends_at`.
        in_account -> BigInt,
        /// Microseconds since 1970.
        account_ends_at -> BigInt,
        /// So many of them count for the address, too, in the window that ends at `address_ends_at`.
        in_address -> BigInt,
        /// Microseconds since 1970.
        address_ends_at -> BigInt,
        /// UUID, 16 bytes: the account, if there is one.
        user_id -> Nullable<Binary>,
        /// From where an account that exists was guessed at.
        ip_address -> Nullable<Text>,
    }
}

diesel::table! {
    /// What has happened to accounts.
    events (id) {
        /// UUID, 16 bytes.
        id -> Binary,
        /// UUID, 16 bytes; the user may be gone.
        user_id -> Binary,
        /// UUID, 16 bytes; the session may be gone.
        session_id -> Nullable<Binary>,
        /// What happened.
        kind -> Text,
        /// The subtype or reason.
        detail -> Nullable<Text>,
        /// Microseconds since 1970.
        at -> BigInt,
        /// From where.
        ip_address -> Nullable<Text>,
        /// As the session was called.
        device_name -> Nullable<Text>,
    }
}

diesel::table! {
    /// One row: what probes write, and what the janitor remembers.
    health (id) {
        /// 1.
        id -> BigInt,
        /// How often it has been written.
        writes -> BigInt,
        /// Microseconds since 1970; 0: never.
        trusted_at -> BigInt,
    }
}

diesel::table! {
    /// Generated access keys that nodes share.
    access_keys (kid) {
        /// The name of the key in its tokens.
        kid -> Text,
        /// `alg` of those tokens.
        algorithm -> Text,
        /// The key, sealed.
        sealed -> Binary,
        /// The name of the refresh key whose secret opens it.
        sealed_under -> Text,
        /// Microseconds since 1970.
        made_at -> BigInt,
        /// Microseconds since 1970.
        signs_from -> BigInt,
    }
}

diesel::table! {
    /// What was mailed to prove something.
    mail_tokens (id) {
        /// UUID, 16 bytes.
        id -> Binary,
        /// UUID, 16 bytes.
        user_id -> Binary,
        /// `reset`, `known`, `verify`, `change` or `undo`.
        purpose -> Text,
        /// SHA-256 of the token.
        token_hash -> Binary,
        /// Where it was sent; of `undo` what the account gets back.
        email -> Text,
        /// The same as it is compared.
        email_key -> Text,
        /// HMAC of the code.
        code_tag -> Nullable<Binary>,
        /// Microseconds since 1970.
        code_expires_at -> BigInt,
        /// How often a code was tried.
        code_tries -> BigInt,
        /// Microseconds since 1970.
        created_at -> BigInt,
        /// Microseconds since 1970.
        expires_at -> BigInt,
    }
}

diesel::table! {
    /// Mails that wait to be sent.
    mails (id) {
        /// UUID, 16 bytes.
        id -> Binary,
        /// UUID, 16 bytes.
        user_id -> Nullable<Binary>,
        /// Which text it is.
        kind -> Text,
        /// Where it goes.
        recipient -> Text,
        /// The message, sealed.
        sealed -> Binary,
        /// The name of the refresh key whose secret opens it.
        sealed_under -> Text,
        /// Microseconds since 1970.
        created_at -> BigInt,
        /// Not before; microseconds since 1970.
        due_at -> BigInt,
        /// Of the node that sends it, 16 bytes.
        claim -> Nullable<Binary>,
        /// How often it was tried.
        attempts -> BigInt,
        /// Why it was not sent.
        last_error -> Nullable<Text>,
    }
}

diesel::table! {
    /// Keys that have signed tokens, and until when those can be used.
    signing_keys (kid, purpose, issuer) {
        /// The name of the key in its tokens.
        kid -> Text,
        /// `access` or `refresh`.
        purpose -> Text,
        /// `iss` of those tokens; empty: unknown.
        issuer -> Text,
        /// `alg` of those tokens.
        algorithm -> Text,
        /// The name of the file it was generated into; null: it is configured.
        file -> Nullable<Text>,
        /// Microseconds since 1970.
        first_used_at -> BigInt,
        /// Microseconds since 1970.
        last_used_at -> BigInt,
        /// Microseconds since 1970: the last token signed with it can be used until then.
        needed_until -> BigInt,
    }
}

diesel::allow_tables_to_appear_in_same_query!(users, sessions, session_ends);
