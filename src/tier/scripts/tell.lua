-- Tells a change: writes it into the log, and lets go of what is stored of whoever it concerns.
-- KEYS: the log, the last change of everybody, the changes under way, the erasures
-- ARGV: what all names begin with; the message; its kind; the change that it is of; how long reads are
--       held off, or the person is barred, in ms; how long it is kept in mind in ms; "1" if it is of
--       everybody; up to where the teller has followed the log; then the hashes of the names
-- Returns the time in ms, the position, and of an erasure the place and record of each person it met.
local stem, message, kind, change = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local hold_ms, keep_ms, everybody, seen = tonumber(ARGV[5]), ARGV[6], ARGV[7] == '1', ARGV[8]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function digits(id)
  local ms, sequence = string.match(id, '(%d+)-(%d+)')
  return string.format('%016x%016x', ms, sequence)
end
-- Also where the log has been trimmed to nothing.
local last = string.rep('0', 32)
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for index = 1, #info, 2 do
    if info[index] == 'last-generated-id' then last = digits(info[index + 1]) end
  end
end
-- Somebody else has told of the loss.
local outdated = redis.call('GET', KEYS[2])
if kind == 'lost' and outdated and string.sub(outdated, 1, 32) > seen then return {now, last, {}} end

-- After a fail-over to a clock that is behind, positions go on from where they were.
local id, seen_ms = '*', tonumber(string.sub(seen, 1, 16), 16)
if now <= seen_ms and tonumber(string.sub(last, 1, 16), 16) <= seen_ms then
  id = string.format('%d-0', seen_ms + 1)
end
local position = digits(redis.call('XADD', KEYS[1], 'MAXLEN', '~', 10000, id, 'm', message, 'p', last))

-- Only where no other change is under way does the end of one say until when reads are held off.
local under_way = redis.call('HGETALL', KEYS[3])
for index = 1, #under_way, 2 do
  if (tonumber(under_way[index + 1]) or 0) < now then redis.call('HDEL', KEYS[3], under_way[index]) end
end
if kind == 'begin' then
  redis.call('HSET', KEYS[3], change, now + hold_ms)
  redis.call('PEXPIRE', KEYS[3], keep_ms)
end
if kind == 'end' then redis.call('HDEL', KEYS[3], change) end
local replaces = kind == 'end' and redis.call('HLEN', KEYS[3]) == 0
local holds = kind == 'begin' or kind == 'end'
local held_until = string.format('%016x', holds and now + hold_ms or 0)

local function note(place)
  local held = held_until
  local before = redis.call('GET', place)
  if before and not replaces and string.sub(before, 34) > held then held = string.sub(before, 34) end
  redis.call('SET', place, position .. ' ' .. held, 'PX', keep_ms)
end

-- One that may be of everybody takes effect at its end: it may yet be refused.
-- Where the log lacks what the teller has seen in it, changes were lost with it.
if (everybody and kind ~= 'begin') or last < seen then note(KEYS[2]) end
local met = {}
for index = 9, #ARGV do
  local hash = ARGV[index]
  note(stem .. 'c:' .. hash)
  if kind == 'erase' then redis.call('SET', stem .. 'b:' .. hash, '1', 'PX', hold_ms) end
  local places = {stem .. 'p:' .. hash}
  local name = redis.call('GET', stem .. 'n:' .. hash)
  if name and string.sub(name, 6, 6) == 'n' then
    places[2] = stem .. 'p:' .. string.sub(name, 57, 88)
  end
  local others = redis.call('GET', stem .. 'd:' .. hash) or ''
  for at = 1, #others, 32 do places[#places + 1] = stem .. 'p:' .. string.sub(others, at, at + 31) end
  for _, place in ipairs(places) do
    local record = kind == 'erase' and redis.call('GET', place)
    if record then
      met[#met + 1] = place
      met[#met + 1] = record
    end
    redis.call('DEL', place)
  end
  redis.call('DEL', stem .. 'n:' .. hash, stem .. 'a:' .. hash, stem .. 'd:' .. hash)
end

if kind == 'erase' then
  local erasures = redis.call('HGETALL', KEYS[4])
  for index = 1, #erasures, 2 do
    if (tonumber(string.sub(erasures[index + 1], 1, 16), 16) or 0) < now then
      redis.call('HDEL', KEYS[4], erasures[index])
    end
  end
  redis.call('HSET', KEYS[4], position, string.format('%016x', now + hold_ms) .. message)
  if redis.call('PTTL', KEYS[4]) < hold_ms then redis.call('PEXPIRE', KEYS[4], hold_ms) end
end
return {now, position, met}
