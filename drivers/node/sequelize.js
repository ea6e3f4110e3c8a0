// Sequelize, which puts parameters into the text unless they are given as bind.
import { Sequelize, DataTypes, Op, QueryTypes } from 'sequelize'
import { assert, check, email1, email2, env, fails, ssn1, ssn2, ssn3, tlsOptions, tlsURL, token, version, when } from './check.js'

version('sequelize')
const open = (url, dialectOptions = {}) => new Sequelize(url.replace(/\?.*/, ''), { dialect: 'postgres', logging: false, dialectOptions })
const db = open(env.url)
const Thing = db.define('drivers_sequelize', {
  name: { type: DataTypes.STRING, unique: true }, n: DataTypes.INTEGER, price: DataTypes.DECIMAL(12, 4), on: DataTypes.BOOLEAN, at: DataTypes.DATE, key: DataTypes.UUID,
  data: DataTypes.JSONB, tags: DataTypes.ARRAY(DataTypes.TEXT), bytes: DataTypes.BLOB,
}, { freezeTableName: true, timestamps: false })
await check('connect', () => db.authenticate())
await check('sync', async () => {
  await Thing.sync({ force: true })
  await Thing.sync({ alter: true })
  assert.equal(Object.keys(await db.getQueryInterface().describeTable('drivers_sequelize')).length, 10)
})
const thing = { name: 'a\'\\"', n: -5, price: '12345.6789', on: true, at: when, key: '01020304-0506-0708-090a-0b0c0d0e0f10', data: { a: [1, null] }, tags: ['x,y', '"'], bytes: Buffer.from([0, 1, 255]) }
await check('insert', async () => assert.deepEqual((await Thing.findByPk((await Thing.create(thing)).id)).get(), { id: 1, ...thing }))
await check('bulk', () => Thing.bulkCreate(Array.from({ length: 50 }, (_, i) => ({ name: 'row ' + i, n: i }))))
await check('parameter', async () => {
  for (let i = 0; i < 12; i++) assert.equal((await db.query('SELECT :v::text || :i::int4 AS v', { replacements: { v: 'sent-marker', i }, type: QueryTypes.SELECT }))[0].v, 'sent-marker' + i)
})
await check('bind', async () => {
  for (let i = 0; i < 12; i++) assert.equal((await db.query('SELECT $v::text || $i::int4 AS v', { bind: { v: 'sent-marker', i }, type: QueryTypes.SELECT }))[0].v, 'sent-marker' + i)
})
await check('upsert', () => Thing.upsert({ name: 'row 1', n: 77 }))
await check('findOrCreate', async () => assert.equal((await Thing.findOrCreate({ where: { name: 'fresh' } }))[1], true))
await check('transaction', async () => {
  await fails(() => db.transaction(async (t) => {
    await Thing.destroy({ where: { n: { [Op.gt]: 0 } }, transaction: t })
    await fails(() => db.transaction({ transaction: t }, (inner) => db.query('SELECT 1 / 0', { transaction: inner })))
    throw new Error('back')
  }))
  assert.equal(await Thing.count(), 52)
})
await check('error.unique', async () => {
  const e = await fails(() => Thing.create({ name: 'row 1' }))
  assert.equal(`${e.name} ${Object.keys(e.fields)}`, 'SequelizeUniqueConstraintError name')
})
await check('error.position', async () => {
  const e = await fails(() => db.query('SELECT 1 + no_such_column'))
  assert.equal(`${e.parent.code} ${e.parent.position}`, '42703 12')
})
await check('drop', () => Thing.drop())
await db.close()

if (env.support) {
  await check('tls', async () => { const d = open(tlsURL(), { ssl: tlsOptions() }); await d.authenticate(); await d.close() })
  const model = (url) => {
    const d = open(url)
    const People = d.define('people', { name: DataTypes.TEXT, email: DataTypes.TEXT, ssn: { type: DataTypes.TEXT, unique: true } },
      { freezeTableName: true, createdAt: 'created_at', updatedAt: false })
    const Pets = d.define('pets', { name: DataTypes.TEXT }, { freezeTableName: true, timestamps: false })
    People.hasMany(Pets, { foreignKey: 'person_id' })
    Pets.belongsTo(People, { foreignKey: 'person_id' })
    return { d, People, Pets }
  }
  const [app, support, analyst, backing] = [env.url, env.support, env.analyst, env.backing].map(model)
  let one
  await check('protected.insert', async () => {
    await app.People.destroy({ where: {} })
    one = await app.People.create({ name: 'One', email: email1, ssn: ssn1 })
    assert.equal(one.ssn, ssn1)
    const rows = await app.People.bulkCreate([{ name: 'Two', ssn: ssn2 }, { name: 'Three' }])
    assert.equal(rows[0].ssn, ssn2)
    await app.Pets.bulkCreate([{ person_id: one.id, name: 'Rex' }, { person_id: one.id, name: 'Tom' }])
  })
  await check('protected.find', async () => assert.equal((await app.People.findOne({ where: { ssn: ssn1 } })).email, email1))
  await check('protected.in', async () => assert.equal((await app.People.findAll({ where: { ssn: [ssn1, ssn2] }, order: ['id'], limit: 5 })).length, 2))
  await check('protected.include', async () => {
    const found = await app.People.findAll({ include: app.Pets, where: { ssn: ssn1 } })
    assert.equal(`${found[0].ssn} ${found[0].pets.length}`, `${ssn1} 2`)
  })
  await check('protected.include_limit', async () => {
    const found = await app.People.findOne({ include: app.Pets, where: { ssn: ssn1 } })
    assert.equal(`${found.ssn} ${found.pets.length}`, `${ssn1} 2`)
  })
  await check('protected.join', async () => assert.equal((await app.Pets.findOne({ include: { model: app.People, where: { ssn: ssn1 } } })).person.ssn, ssn1))
  await check('protected.page', async () => assert.equal((await app.People.findAndCountAll({ where: { ssn: { [Op.ne]: null } }, limit: 1, offset: 1, order: [['id', 'DESC']] })).count, 2))
  await check('protected.count', async () => assert.equal(await app.People.count({ distinct: true, col: 'ssn' }), 2))
  await check('protected.update', async () => { one.ssn = ssn3; await one.save(); await app.People.update({ email: email2 }, { where: { ssn: ssn3 } }); await one.reload(); assert.equal(one.email, email2) })
  await check('protected.upsert', () => app.People.upsert({ id: one.id, name: 'One', ssn: ssn1 }))
  await check('protected.bulk_upsert', () => app.People.bulkCreate([{ id: one.id, name: 'One', ssn: ssn1 }], { updateOnDuplicate: ['ssn', 'name'] }))
  await check('protected.findOrCreate', async () => assert.equal((await app.People.findOrCreate({ where: { ssn: '512-34-0001' }, defaults: { name: 'Four' } }))[0].ssn, '512-34-0001'))
  const ssn = async (m) => (await m.People.findByPk(one.id)).ssn
  await check('protected.masked', async () => assert.match(await ssn(support), /^\*{3}-\*{2}-\d{4}$/))
  await check('protected.token', async () => {
    const t = await ssn(analyst)
    assert.match(t, token)
    assert.equal(await ssn(backing), t)
  })
  await check('protected.invalid', async () => {
    const e = await fails(() => app.People.update({ ssn: '219-09-99x8' }, { where: {} }))
    assert.equal(e.parent.code, '22P02')
    assert.ok(!e.message.includes('219-09'), 'the error repeats the value')
  })
  await check('protected.describe', async () => assert.equal(Object.keys(await app.d.getQueryInterface().describeTable('people')).length, 7))
  await check('protected.delete', () => app.People.destroy({ where: {} }))
  for (const m of [app, support, analyst, backing]) await m.d.close()
}
