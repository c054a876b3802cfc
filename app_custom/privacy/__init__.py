"""Privacy mechanisms inside NVFlare: filters that a job or a site's own policy puts in its way."""
