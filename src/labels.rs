//! What a service's labels say: routes that can be relied on, and diagnostics for the rest.
