"""From a user's config to the configs of the steps."""
