#!lua flags=allow-oom
-- Let programs use a store that was restored.
return redis.call('DEL', shared('restoring'))
