-- Requests for the one thread of wrk: for people in turn, again and again, or at random.
-- Arguments: "turn" or "random"; how many people; the process that serves; a file; and headers as
-- NAME VALUE pairs.
--
-- A request is made when it is sent, so that a million people take no longer to begin with than ten. At
-- random, it notes how many requests there have been and what the server has taken, first when the file
-- is there and then until the end; `done` prints the differences. What opening the connections took is
-- not among them.
local OFTEN = 64
local before, after, people
local threads = {}
-- What `done` reads must be global.
asked, first_asked, first_ticks, last_asked, last_ticks = 0, 0, 0, 0, 0

-- What the server has taken, in ticks of user and system time.
local function ticks()
   local file = assert(io.open("/proc/" .. server .. "/stat"))
   local user, system = file:read("*l"):match("%) " .. ("%S+ "):rep(11) .. "(%d+) (%d+)")
   file:close()
   return user + system
end

local function note()
   if first_asked == 0 then
      local file = io.open(begin)
      if not file then return end
      file:close()
      first_asked, first_ticks = asked, ticks()
   end
   last_asked, last_ticks = asked, ticks()
end

local function person(number)
   return before .. string.format("%07d", number) .. after
end

local function in_turn()
   asked = asked + 1
   return person((asked - 1) % people)
end

local function at_random()
   asked = asked + 1
   if asked % OFTEN == 0 then note() end
   return person(math.random(0, people - 1))
end

function setup(thread)
   table.insert(threads, thread)
end

function init(arguments)
   people, server, begin = tonumber(arguments[2]), arguments[3], arguments[4]
   local headers = { ["Host"] = "127.0.0.1" }
   for index = 5, #arguments, 2 do headers[arguments[index]] = arguments[index + 1] end
   before, after = wrk.format("GET", "/api/v1/people/user_#", headers):match("^(.-)#(.*)$")
   math.randomseed(7)
   request = arguments[1] == "turn" and in_turn or at_random
end

function done()
   local get = function(name) return threads[1]:get(name) end
   print("counted: " .. get("last_asked") - get("first_asked") .. " requests, " .. get("last_ticks") - get("first_ticks") .. " ticks")
end
