# Looks people up through a gateway with Ruby's net/http, over one kept-alive connection.
#
# Usage: net_http.rb BASE_URL EXTERNAL_ID EMAIL UNKNOWN_ID EXPECTED_JSON
require "json"
require "net/http"
require "uri"

HEADERS = {
  "Content-Type" => "application/json",
  "Authorization" => "Bearer some-old-flameup-key",
}.freeze

def main(base, external_id, email, unknown_id, expected_path)
  expected = object(File.binread(expected_path))
  uri = URI(base)
  Net::HTTP.start(uri.host, uri.port, open_timeout: 20, read_timeout: 20) do |http|
    person_at(http, external_id, expected)
    check_hit(external_id, person_at(http, external_id, expected))
    check_unknown(http, unknown_id)
    person_at(http, email, expected)
    person_at(http, email.sub("@", "%40"), expected)
  end
  puts "ok net/http"
end

def person_at(http, id, expected)
  response = look_up(http, id, "200")
  person = object(response.body)
  (expected.keys | person.keys).each do |field|
    wanted, got = [expected, person].map { |fields| fields.fetch(field, :nothing) }
    # eql? and not ==, which holds 1 and 1.0 to be equal.
    next if wanted.eql?(got)

    failed "the Person at #{id} differs in #{field}: expected #{wanted.inspect}, got #{got.inspect}"
  end
  response
end

def check_hit(id, response)
  cache_status = response["Cache-Status"].to_s
  unless cache_status.match?(/;\s*hit\s*([;,]|\z)/)
    failed "the second lookup of #{id} is no hit: Cache-Status is #{cache_status.inspect}"
  end
  return if response["Age"].to_s.match?(/\A[0-9]+\z/)

  failed "the hit on #{id} has no Age, but #{response["Age"].inspect}"
end

def check_unknown(http, id)
  first = look_up(http, id, "404").body
  problem = object(first)
  unless problem["error"].eql?("Not Found") && problem["code"].eql?(404)
    failed "the 404 for #{id} has another body: #{first}"
  end
  again = look_up(http, id, "404").body
  failed "the 404 differs when repeated: #{first}, then #{again}" unless again.b == first.b
end

def look_up(http, id, status)
  response = http.get("/api/v1/people/#{id}", HEADERS)
  return response if response.code == status

  failed "looking up #{id} gave status #{response.code}, not #{status}: #{response.body}"
end

# Reads a JSON object; bodies come as bytes whose encoding Ruby does not know.
def object(text)
  value = JSON.parse(text.dup.force_encoding(Encoding::UTF_8))
  value.is_a?(Hash) ? value : failed("no JSON object: #{text}")
rescue JSON::ParserError => e
  failed "no JSON: #{e.message}"
end

def failed(message)
  abort "net/http: #{message}"
end

main(*ARGV)
