#!lua flags=allow-oom
-- Note that a file that was to be removed is gone. ARGV: address.
redis.call('ZREM', shared('collecting'), ARGV[1])
return 1
