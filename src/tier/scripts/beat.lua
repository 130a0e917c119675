-- Says how far a replica has followed the log, and hears how far the others have.
-- KEYS: the replicas, the log, what this life of the log is called
-- ARGV: the replica; up to where it has applied the log, empty if it leaves; a name for a log that has
--       none; after how many ms of silence a replica is forgotten; for how many what was told is kept
-- Returns the time in ms, the last position, the name of this life, the replicas with their words, and
-- after which position the log still has all.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[3], ARGV[3], 'NX')
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. string.format('%016x', now))
end
-- Nothing stays where no gateway is any more.
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 4 * ARGV[5]) end
local all, heard = redis.call('HGETALL', KEYS[1]), {}
for index = 1, #all, 2 do
  if now - (tonumber(string.sub(all[index + 1], 34), 16) or 0) > tonumber(ARGV[4]) then
    redis.call('HDEL', KEYS[1], all[index])
  else
    heard[#heard + 1] = all[index]
    heard[#heard + 1] = all[index + 1]
  end
end

local function digits(id)
  local ms, sequence = string.match(id, '(%d+)-(%d+)')
  return string.format('%016x%016x', ms, sequence)
end
local last = string.rep('0', 32)
local begins = last
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('XTRIM', KEYS[2], 'MINID', string.format('%d', now - tonumber(ARGV[5])))
  local info, first = redis.call('XINFO', 'STREAM', KEYS[2]), false
  for index = 1, #info, 2 do
    if info[index] == 'last-generated-id' then last = digits(info[index + 1]) end
    if info[index] == 'first-entry' then first = info[index + 1] end
  end
  begins = last
  local fields = first and first[2] or {}
  for index = 1, #fields, 2 do
    if fields[index] == 'p' then begins = fields[index + 1] end
  end
end
return {now, last, redis.call('GET', KEYS[3]), heard, begins}
