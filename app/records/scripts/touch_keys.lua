#!lua flags=allow-oom
-- Note when keys were last used. ARGV: alternating hashes and milliseconds since then.
for i = 1, #ARGV, 2 do
  local row, at = shared('key', ARGV[i]), now - ARGV[i + 1]
  local id, before = fields(row, 'id', 'last_used_at')
  if id and at > tonumber(before or 0) then redis.call('HSET', row, 'last_used_at', string.format('%.0f', at)) end
end
return redis.status_reply('OK')
