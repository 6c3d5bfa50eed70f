#!lua flags=allow-oom
-- Note that a remover is done with files: they are gone, or left to whoever asks for them next.
-- ARGV: the remover, addresses.
for i = 2, #ARGV do end_collecting(ARGV[i], ARGV[1]) end
return 1
