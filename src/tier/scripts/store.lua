-- Stores a record, unless something has happened that it does not show.
-- KEYS: where it stands, the last change of everybody
-- ARGV: what all names begin with; the record; how long it lives in ms, 0 if it is not to be kept; the
--       hash of the name that was asked for, and of its spelling; then the hash and the record of each
--       name that leads to it
-- Returns the time in ms, and "stored", "changed" or "older".
local MOST_OTHERS = 8
local stem, record, ttl_ms, asked, spelled = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local position, asked_at = string.sub(record, 7, 38), string.sub(record, 39, 54)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A change is its position, and until when what is read may show what was before.
local function outdated_by(change)
  return change and (string.sub(change, 1, 32) > position or string.sub(change, 34, 49) > asked_at)
end

local function is_later(key)
  return string.sub(redis.call('GETRANGE', key, 0, 53), 39, 54) > asked_at
end

if outdated_by(redis.call('GET', KEYS[2])) then return {now, 'changed'} end
local names = {}
for index = 1, tonumber(string.sub(record, 55, 56), 16) do
  local hash = string.sub(record, 25 + 32 * index, 56 + 32 * index)
  if outdated_by(redis.call('GET', stem .. 'c:' .. hash))
    or redis.call('EXISTS', stem .. 'b:' .. hash) == 1 then
    return {now, 'changed'}
  end
  names[index] = hash
end
if is_later(KEYS[1]) then return {now, 'older'} end

-- Whoever else has a name is found by it when it is erased, for as long as they are stored.
local function note(hash, target)
  if target == '' then return end
  local place = stem .. 'd:' .. hash
  local others = redis.call('GET', place) or ''
  if not string.find(others, target, 1, true) then others = others .. target end
  if #others > 32 * MOST_OTHERS then
    redis.call('DEL', stem .. 'p:' .. string.sub(others, 1, 32))
    others = string.sub(others, 33)
  end
  local longest = math.max(ttl_ms, redis.call('PTTL', place), redis.call('PTTL', stem .. 'p:' .. target))
  if longest > 0 then redis.call('SET', place, others, 'PX', longest) end
end

if string.sub(record, 6, 6) == 'a' then
  -- Nobody is called so any more, unless somebody was found later.
  local target = string.sub(redis.call('GET', stem .. 'n:' .. asked) or '', 57, 88)
  if is_later(stem .. 'p:' .. target) then return {now, 'older'} end
  note(asked, target)
  redis.call('DEL', stem .. 'n:' .. asked)
  -- Of an e-mail in another case it is not certain whose it was.
  if target ~= '' and asked == spelled then redis.call('DEL', stem .. 'p:' .. target) end
else
  for _, hash in ipairs(names) do
    if is_later(stem .. 'a:' .. hash) then return {now, 'older'} end
  end
  for index = 6, #ARGV, 2 do
    local hash, leads = ARGV[index], ARGV[index + 1]
    local own = string.sub(leads, 57, 88)
    local place = stem .. 'n:' .. hash
    local other = redis.call('GET', place)
    local target = string.sub(other or '', 57, 88)
    local lives = other == 'disputed' or redis.call('EXISTS', stem .. 'p:' .. target) == 1
    -- A name that somebody else has too is answered only by what Flameup answered to it.
    if other and lives and target ~= own then
      note(hash, target)
      if hash ~= asked then
        note(hash, own)
        leads = 'disputed'
      end
    end
    redis.call('SET', place, leads, 'PX', ttl_ms)
  end
  for _, hash in ipairs(names) do
    redis.call('DEL', stem .. 'a:' .. hash)
  end
end
if ttl_ms > 0 then redis.call('SET', KEYS[1], record, 'PX', ttl_ms) end
return {now, 'stored'}
