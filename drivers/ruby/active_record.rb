# ActiveRecord over ruby-pg: migrations, named prepared statements, relations.
require 'active_record'
require 'logger'

SSN1, SSN2, SSN3 = '219-09-9998', '457-55-5462', '512-34-7788'
EMAIL1, EMAIL2 = 'planted.one@example.com', 'planted.two@example.org'
puts "# version activerecord #{ActiveRecord::VERSION::STRING}"
$stdout.sync = true
ActiveRecord::Base.logger = nil
ActiveRecord::Base.default_timezone = :utc

def check(name)
  yield
  puts "ok #{name}"
rescue Exception => e
  puts "not ok #{name}: #{e.class}: #{e.message.split.join(' ')}"
end

def same(got, want)
  raise "got #{got.inspect}, want #{want.inspect}" unless got == want
end

def fails
  yield
rescue ActiveRecord::ActiveRecordError, PG::Error => e
  e
else
  raise 'no error'
end

def config(variable, more = {})
  u = URI.parse(ENV.fetch(variable))
  { adapter: 'postgresql', host: u.host, port: u.port, username: u.user, password: u.password, database: u.path[1..], sslmode: 'disable', min_messages: 'warning' }.merge(more)
end

class Thing < ActiveRecord::Base
  self.table_name = 'drivers_activerecord'
end

class Person < ActiveRecord::Base
  self.table_name = 'people'
  has_many :pets
end

class Pet < ActiveRecord::Base
  belongs_to :person
end

ActiveRecord::Base.establish_connection(config('DRIVERS_URL'))
conn = ActiveRecord::Base.connection
check('connect') { same conn.active?, true }
check('migrate') do
  conn.create_table(:drivers_activerecord, force: true) do |t|
    t.string :name, limit: 40, index: { unique: true }
    t.bigint :n
    t.integer :small, limit: 2
    t.decimal :price, precision: 17, scale: 4
    t.float :ratio
    t.boolean :on
    t.date :day
    t.datetime :at, precision: 6
    t.uuid :key
    t.jsonb :data
    t.json :json
    t.text :tags, array: true
    t.binary :bytes
  end
  conn.add_column :drivers_activerecord, :note, :text, default: 'x', null: false
  same conn.columns(:drivers_activerecord).size, 15
  same conn.indexes(:drivers_activerecord).size, 1
  same conn.primary_key(:drivers_activerecord), 'id'
  conn.foreign_keys(:drivers_activerecord)
  same conn.tables.include?('drivers_activerecord'), true
end
VALUES = { name: "a'\\\"", n: -9223372036854775808, small: -32768, price: BigDecimal('-1234567890123.4567'), ratio: 1.5, on: true, day: Date.new(2024, 2, 29),
           at: Time.utc(2024, 2, 29, 12, 34, 56, 789012), key: '01020304-0506-0708-090a-0b0c0d0e0f10', data: { 'a' => [1, nil] }, json: { 'a' => 'b' }, tags: ['x,y', '"', nil],
           bytes: "\x00\x01\xFF\\".b }
check('types') do
  Thing.reset_column_information
  t = Thing.create!(VALUES).reload
  VALUES.each { |k, v| same t[k], v }
end
check('null') { same Thing.create!(name: 'null').reload.at, nil }
check('parameter') do
  12.times do |i|
    bind = [ActiveRecord::Relation::QueryAttribute.new('v', 'sent-marker', ActiveRecord::Type::String.new), ActiveRecord::Relation::QueryAttribute.new('i', i, ActiveRecord::Type::Integer.new)]
    same conn.exec_query('SELECT $1::text || $2::int4', 'SQL', bind, prepare: true).rows[0][0], "sent-marker#{i}"
  end
end
check('prepared') { 12.times { same Thing.where(name: 'null').first.name, 'null' } }
check('bulk') do
  Thing.insert_all!((0...300).map { |i| { name: "row #{i}", n: i } })
  Thing.upsert_all([{ name: 'row 1', n: 77 }], unique_by: :name)
  same Thing.find_by(name: 'row 1').n, 77
  same Thing.find_each(batch_size: 100).count, 302
end
check('transaction') do
  Thing.transaction do
    Thing.where(n: 5).delete_all
    e = fails { Thing.transaction(requires_new: true) { Thing.create!(name: 'row 2') } }
    same e.class, ActiveRecord::RecordNotUnique
    Thing.lock.find_by(name: 'row 2')
    raise ActiveRecord::Rollback
  end
  same Thing.count, 302
end
raw = conn.raw_connection
check('copy') do
  raw.exec('CREATE TEMP TABLE copied (id int, note text)')
  raw.copy_data('COPY copied FROM STDIN') { 5000.times { |i| raw.put_copy_data("#{i}\tx\n") } }
  rows = []
  raw.copy_data('COPY (SELECT g FROM generate_series(1, 3) g) TO STDOUT') { while (r = raw.get_copy_data) do rows << r end }
  same rows, ["1\n", "2\n", "3\n"]
end
check('pipeline') do
  raw.enter_pipeline_mode
  20.times { |i| raw.send_query_params('SELECT $1::int4', [i]) }
  raw.pipeline_sync
  got = 20.times.map { v = raw.get_result.getvalue(0, 0); raw.get_result; v.to_i }
  same got, (0...20).to_a
  same raw.get_result.result_status, PG::PGRES_PIPELINE_SYNC
  raw.exit_pipeline_mode
end
check('cancel') do
  Thread.new { sleep 0.3; raw.cancel }
  same fails { raw.exec('SELECT pg_sleep(20)') }.result.error_field(PG::PG_DIAG_SQLSTATE), '57014'
end
check('listen') do
  raw.exec('LISTEN drivers_activerecord')
  PG.connect(ENV['DRIVERS_URL']).exec_params("SELECT pg_notify('drivers_activerecord', $1)", ['told'])
  payload = nil
  raw.wait_for_notify(5) { |_, _, p| payload = p }
  same payload, 'told'
end
check('error.position') do
  r = fails { conn.execute('SELECT 1 + no_such_column') }.cause.result
  same [r.error_field(PG::PG_DIAG_SQLSTATE), r.error_field(PG::PG_DIAG_STATEMENT_POSITION)], %w[42703 12]
end
check('error.detail') { same fails { Thing.create!(name: 'row 2') }.message.include?('DETAIL:  Key (name)=(row 2) already exists.'), true }
check('large') { same raw.exec_params('SELECT $1::text', ['x' * (8 << 20)]).getvalue(0, 0).size, 8 << 20 }
check('drop') { conn.drop_table :drivers_activerecord }

if ENV['DRIVERS_SUPPORT_URL']
  check('tls') do
    c = PG.connect(config('DRIVERS_URL', sslmode: 'verify-full', sslrootcert: ENV['DRIVERS_CA'], host: 'localhost').slice(:host, :port, :sslmode, :sslrootcert)
      .merge(user: config('DRIVERS_URL')[:username], password: config('DRIVERS_URL')[:password], dbname: config('DRIVERS_URL')[:database]))
    c.close
  end
  # as runs a block with Person connected as another role.
  def as(variable)
    klass = Class.new(ActiveRecord::Base) { def self.name; 'Other' end }
    klass.establish_connection(config(variable))
    klass.table_name = 'people'
    v = yield klass
    klass.remove_connection
    v
  end
  one = nil
  check('protected.insert') do
    Pet.delete_all
    Person.delete_all
    one = Person.create!(name: 'One', email: EMAIL1, ssn: SSN1)
    Pet.create!([{ person: one, name: 'Rex' }, { person: one, name: 'Tom' }])
    Person.insert_all!([{ name: 'Two', ssn: SSN2, created_at: Time.now }, { name: 'Three', ssn: nil, created_at: Time.now }])
  end
  check('protected.find') { 12.times { same Person.find_by(ssn: SSN1).email, EMAIL1 } }
  check('protected.in') { same Person.where(ssn: [SSN1, SSN2]).order(id: :desc).limit(5).to_a.size, 2 }
  check('protected.not') { same Person.where.not(ssn: SSN1).pluck(:ssn), [SSN2] }
  check('protected.includes') { same Person.includes(:pets).where(ssn: SSN1).first.pets.size, 2 }
  check('protected.eager_load') { same Person.eager_load(:pets).where(ssn: SSN1).to_a.first.pets.size, 2 }
  check('protected.eager_load_limit') { same Person.eager_load(:pets).where(ssn: SSN1).first.pets.size, 2 }
  check('protected.join') { same Pet.joins(:person).where(people: { ssn: SSN1 }).order(:id).first.person.ssn, SSN1 }
  check('protected.count') do
    same Person.where.not(ssn: nil).distinct.count(:ssn), 2
    same Person.exists?(ssn: SSN1), true
  end
  check('protected.find_each') { same Person.where.not(ssn: nil).find_each(batch_size: 1).map(&:ssn), [SSN1, SSN2] }
  check('protected.update') do
    one.update!(ssn: SSN3)
    Person.where(ssn: SSN3).update_all(email: EMAIL2)
    same one.reload.email, EMAIL2
  end
  check('protected.find_or_create') { same Person.find_or_create_by!(ssn: '512-34-0001') { |p| p.name = 'Four' }.ssn, '512-34-0001' }
  check('protected.uniqueness') do
    same fails { Person.create!(name: 'x', ssn: SSN3) }.class, ActiveRecord::RecordNotUnique
  end
  check('protected.upsert_all') { Person.upsert_all([{ id: one.id, name: 'One', ssn: SSN1, created_at: Time.now }]) }
  check('protected.lock') { Person.transaction { one.lock! } }
  check('protected.masked') { same as('DRIVERS_SUPPORT_URL') { |p| p.find(one.id).ssn }.match?(/\A\*{3}-\*\*-\d{4}\z/), true }
  check('protected.token') do
    t = as('DRIVERS_ANALYST_URL') { |p| p.find(one.id).ssn }
    same t.match?(/\A[A-Z]{3}-\d\d-\d{4}\z/), true
    same as('DRIVERS_BACKING_URL') { |p| p.find(one.id).ssn }, t
  end
  check('protected.invalid') do
    e = fails { Person.update_all(ssn: '219-09-99x8') }
    same [e.cause.result.error_field(PG::PG_DIAG_SQLSTATE), e.cause.message.include?('219-09')], ['22P02', false]
  end
  check('protected.introspect') do
    same conn.columns(:people).size, 7
    conn.indexes(:people)
    conn.foreign_keys(:pets)
    conn.check_constraints(:people)
  end
  check('protected.delete') { Pet.delete_all; Person.find(one.id).destroy!; Person.delete_all }
end
