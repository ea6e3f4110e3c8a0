import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.*;
import java.time.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PSQLException;

/** JDBC: pgjdbc in its three query modes; named statements from the fifth execution on. */
public class Drivers {
  static final String SSN1 = "219-09-9998", SSN2 = "457-55-5462", SSN3 = "512-34-7788";

  interface Body {
    void run() throws Exception;
  }

  static void check(String name, Body body) {
    try {
      body.run();
      System.out.println("ok " + name);
    } catch (Exception | AssertionError e) {
      System.out.println("not ok " + name + ": " + String.valueOf(e.getMessage()).replaceAll("\\s+", " "));
    }
  }

  static void same(Object got, Object want) {
    if (!Objects.deepEquals(got, want)) throw new AssertionError("got " + got + ", want " + want);
  }

  static PSQLException fails(Body body) throws Exception {
    try {
      body.run();
    } catch (BatchUpdateException e) {
      return (PSQLException) e.getNextException();
    } catch (PSQLException e) {
      return e;
    }
    throw new AssertionError("no error");
  }

  /** Connects to a postgres:// URL with more parameters of pgjdbc's. */
  static Connection open(String url, String more) throws SQLException {
    var m = java.util.regex.Pattern.compile("postgres://(.*?):(.*?)@(.*?)/([^?]*).*").matcher(url);
    m.matches();
    return DriverManager.getConnection("jdbc:postgresql://" + m.group(3) + "/" + m.group(4) + "?" + (more.contains("sslmode") ? more : "sslmode=disable&" + more), m.group(1), m.group(2));
  }

  static List<List<Object>> rows(Connection c, String sql, Object... args) throws SQLException {
    try (var s = c.prepareStatement(sql)) {
      return rows(s, args);
    }
  }

  static List<List<Object>> rows(PreparedStatement s, Object... args) throws SQLException {
    for (int i = 0; i < args.length; i++) s.setObject(i + 1, args[i]);
    var out = new ArrayList<List<Object>>();
    if (!s.execute()) return out;
    var r = s.getResultSet();
    while (r.next()) {
      var row = new ArrayList<Object>();
      for (int i = 1; i <= r.getMetaData().getColumnCount(); i++) row.add(r.getObject(i));
      out.add(row);
    }
    return out;
  }

  static Object one(Connection c, String sql, Object... args) throws SQLException {
    return rows(c, sql, args).get(0).get(0);
  }

  static String url = System.getenv("DRIVERS_URL");

  public static void main(String[] args) throws Exception {
    try (var c = open(url, "")) {
      System.out.println("# version pgjdbc " + c.getMetaData().getDriverVersion());
      plain(c);
    }
    if (System.getenv("DRIVERS_SUPPORT_URL") != null) protectedTable();
  }

  static void plain(Connection c) {
    check("connect", () -> same(c.isValid(2), true));
    types(c);
    for (var mode : List.of("extended", "extendedForPrepared", "extendedCacheEverything", "simple"))
      check("parameter." + mode, () -> {
        try (var o = open(url, "preferQueryMode=" + mode); var s = o.prepareStatement("SELECT ?::text || ?::int4")) {
          for (int i = 0; i < 12; i++) same(rows(s, "sent-marker", i).get(0).get(0), "sent-marker" + i);
        }
      });
    check("prepared.binary", () -> { // binary results from the fifth execution on
      try (var s = c.prepareStatement("SELECT ?::int8, ?::timestamptz")) {
        var at = OffsetDateTime.of(2024, 2, 29, 12, 34, 56, 789012000, ZoneOffset.UTC);
        for (int i = 0; i < 12; i++) {
          s.setLong(1, i);
          s.setObject(2, at);
          var r = s.executeQuery();
          r.next();
          same(r.getLong(1), (long) i);
          same(r.getObject(2, OffsetDateTime.class).toInstant(), at.toInstant());
        }
      }
    });
    check("batch", () -> {
      c.createStatement().execute("CREATE TEMP TABLE batched (id int, note text)");
      for (var more : List.of("", "reWriteBatchedInserts=true")) {
        try (var o = open(url, more)) {
          o.createStatement().execute("CREATE TEMP TABLE batched (id int, note text)");
          try (var s = o.prepareStatement("INSERT INTO batched VALUES (?, ?)")) {
            for (int i = 0; i < 1000; i++) {
              s.setInt(1, i);
              s.setString(2, "n");
              s.addBatch();
            }
            same(s.executeBatch().length, 1000);
          }
          same(one(o, "SELECT count(*) FROM batched"), 1000L);
        }
      }
    });
    check("batch.error", () -> {
      try (var s = c.prepareStatement("INSERT INTO batched VALUES (1 / ?, 'x')")) {
        for (int i = -5; i < 5; i++) {
          s.setInt(1, i);
          s.addBatch();
        }
        same(fails(s::executeBatch).getSQLState(), "22012");
      }
      same(c.isValid(2), true);
    });
    check("generated_keys", () -> {
      c.createStatement().execute("CREATE TEMP TABLE keyed (id serial PRIMARY KEY, note text)");
      try (var s = c.prepareStatement("INSERT INTO keyed (note) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
        s.setString(1, "x");
        s.executeUpdate();
        var r = s.getGeneratedKeys();
        r.next();
        same(r.getInt(1), 1);
      }
    });
    check("copy", () -> {
      CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
      var in = new StringBuilder();
      for (int i = 0; i < 5000; i++) in.append(i).append("\tx\n");
      same(copy.copyIn("COPY batched FROM STDIN", new StringReader(in.toString())), 5000L);
      var out = new StringWriter();
      copy.copyOut("COPY (SELECT g FROM generate_series(1, 3) g) TO STDOUT", out);
      same(out.toString(), "1\n2\n3\n");
    });
    check("copy.error", () -> same(fails(() -> c.unwrap(PGConnection.class).getCopyAPI().copyIn("COPY batched FROM STDIN", new StringReader("x\ty\n"))).getSQLState(), "22P02"));
    check("transaction", () -> {
      try (var o = open(url, "")) {
        o.createStatement().execute("CREATE TEMP TABLE kept (id int)");
        o.setAutoCommit(false);
        rows(o, "INSERT INTO kept VALUES (?)", 1);
        var s = o.setSavepoint();
        same(fails(() -> rows(o, "SELECT 1 / ?::int", 0)).getSQLState(), "22012");
        same(fails(() -> rows(o, "SELECT 1")).getSQLState(), "25P02");
        o.rollback(s);
        o.commit();
        rows(o, "DELETE FROM kept");
        o.rollback();
        same(one(o, "SELECT count(*) FROM kept"), 1L);
      }
    });
    check("autosave", () -> {
      try (var o = open(url, "autosave=always")) {
        o.setAutoCommit(false);
        fails(() -> rows(o, "SELECT 1 / ?::int", 0));
        same(one(o, "SELECT 5"), 5);
      }
    });
    check("cursor", () -> { // a portal, read in portions
      try (var o = open(url, "")) {
        o.setAutoCommit(false);
        try (var s = o.prepareStatement("SELECT g FROM generate_series(1, ?) g")) {
          s.setFetchSize(100);
          same(rows(s, 250).size(), 250);
        }
      }
    });
    check("callable", () -> {
      try (var s = c.prepareCall("{? = call upper(?)}")) {
        s.registerOutParameter(1, Types.VARCHAR);
        s.setString(2, "x");
        s.execute();
        same(s.getString(1), "X");
      }
    });
    check("cancel", () -> {
      try (var s = c.createStatement()) {
        s.setQueryTimeout(1);
        same(fails(() -> s.execute("SELECT pg_sleep(20)")).getSQLState(), "57014");
      }
    });
    check("listen", () -> {
      c.createStatement().execute("LISTEN drivers_jdbc");
      try (var o = open(url, "")) {
        rows(o, "SELECT pg_notify('drivers_jdbc', ?)", "told");
      }
      same(c.unwrap(PGConnection.class).getNotifications(5000)[0].getParameter(), "told");
    });
    check("notice", () -> {
      try (var s = c.createStatement()) {
        s.execute("DO $$ BEGIN RAISE NOTICE 'noted'; END $$");
        same(s.getWarnings().getMessage(), "noted");
      }
    });
    check("metadata", () -> {
      c.createStatement().execute("DROP TABLE IF EXISTS drivers_jdbc; CREATE TABLE drivers_jdbc (id int PRIMARY KEY, note text)");
      var m = c.getMetaData();
      same(count(m.getTables(null, "public", "drivers_jdbc", null)), 1);
      same(count(m.getColumns(null, "public", "drivers_jdbc", null)), 2);
      same(count(m.getPrimaryKeys(null, "public", "drivers_jdbc")), 1);
      count(m.getIndexInfo(null, "public", "drivers_jdbc", false, false));
      count(m.getImportedKeys(null, "public", "drivers_jdbc"));
      count(m.getFunctions(null, "pg_catalog", "upper"));
      count(m.getTypeInfo());
      try (var s = c.prepareStatement("SELECT id, note FROM drivers_jdbc")) {
        same(s.getMetaData().getColumnName(2), "note");
        same(s.executeQuery().getMetaData().isNullable(1), ResultSetMetaData.columnNoNulls);
      }
      c.createStatement().execute("DROP TABLE drivers_jdbc");
    });
    check("error.position", () -> {
      var e = fails(() -> c.createStatement().execute("SELECT 1 + no_such_column")).getServerErrorMessage();
      same(e.getSQLState() + " " + e.getPosition(), "42703 12");
    });
    check("error.detail", () -> {
      c.createStatement().execute("CREATE TEMP TABLE uniques (id int PRIMARY KEY)");
      var e = fails(() -> rows(c, "INSERT INTO uniques VALUES (?), (1)", 1)).getServerErrorMessage();
      same(e.getSQLState() + " " + e.getConstraint() + " " + e.getDetail(), "23505 uniques_pkey Key (id)=(1) already exists.");
    });
    check("large", () -> same(((String) one(c, "SELECT ?::text", "x".repeat(8 << 20))).length(), 8 << 20));
    check("largeobject", () -> {
      try (var o = open(url, "")) { // by FunctionCall
        o.setAutoCommit(false);
        var api = o.unwrap(PGConnection.class).getLargeObjectAPI();
        long oid = api.createLO();
        try (var lo = api.open(oid)) {
          lo.write("large".getBytes());
          lo.seek(0);
          same(new String(lo.read(10)), "large");
        }
        o.rollback();
      }
    });
  }

  static int count(ResultSet r) throws SQLException {
    int n = 0;
    while (r.next()) n++;
    return n;
  }

  static void types(Connection c) {
    var at = LocalDateTime.of(2024, 2, 29, 12, 34, 56, 789012000);
    Object[][] all = {
      {"int2", (short) -32768, -32768}, {"int4", Integer.MAX_VALUE, Integer.MAX_VALUE}, {"int8", Long.MIN_VALUE, Long.MIN_VALUE},
      {"numeric", new BigDecimal("-1234567890123.4567"), new BigDecimal("-1234567890123.4567")}, {"float4", 1.5f, 1.5f}, {"float8", 1e-300, 1e-300}, {"bool", true, true},
      {"text", "Grüße \\ ' \" 🐘", "Grüße \\ ' \" 🐘"}, {"bytea", new byte[] {0, 1, -1, 92}, new byte[] {0, 1, -1, 92}}, {"date", java.sql.Date.valueOf("2024-02-29"), java.sql.Date.valueOf("2024-02-29")},
      {"timestamp", at, Timestamp.valueOf(at)}, {"timestamptz", at.atOffset(ZoneOffset.UTC), Timestamp.from(at.toInstant(ZoneOffset.UTC))},
      {"uuid", UUID.fromString("01020304-0506-0708-090a-0b0c0d0e0f10"), UUID.fromString("01020304-0506-0708-090a-0b0c0d0e0f10")}, {"null", null, null},
    };
    for (var t : all)
      check("types." + t[0], () -> {
        try (var s = c.prepareStatement("SELECT ?::" + (t[1] == null ? "text" : t[0]))) {
          for (int i = 0; i < 7; i++) same(rows(s, t[1]).get(0).get(0), t[2]);
        }
      });
    for (var type : List.of("json", "jsonb"))
      check("types." + type, () -> same(one(c, "SELECT ?::" + type, "{\"a\": [1, null]}").toString(), "{\"a\": [1, null]}"));
    check("types.array", () -> {
      try (var s = c.prepareStatement("SELECT ?::text[], ?::int4[]")) {
        for (int i = 0; i < 7; i++) {
          s.setArray(1, c.createArrayOf("text", new String[] {"a,b", "\"q\"", "", null}));
          s.setArray(2, c.createArrayOf("int4", new Integer[] {1, -2, null}));
          var r = s.executeQuery();
          r.next();
          same(r.getArray(1).getArray(), new String[] {"a,b", "\"q\"", "", null});
          same(r.getArray(2).getArray(), new Integer[] {1, -2, null});
        }
      }
    });
  }

  static void protectedTable() throws Exception {
    String support = System.getenv("DRIVERS_SUPPORT_URL"), analyst = System.getenv("DRIVERS_ANALYST_URL"), backing = System.getenv("DRIVERS_BACKING_URL");
    check("tls", () -> open(url.replace("127.0.0.1", "localhost"), "sslmode=verify-full&sslrootcert=" + System.getenv("DRIVERS_CA")).close());
    for (var mode : List.of("extended", "simple", "extendedCacheEverything")) {
      var more = "preferQueryMode=" + mode;
      try (var app = open(url, more); var s = open(support, more); var a = open(analyst, more); var b = open(backing, more)) {
        inMode(mode, app, s, a, b);
      }
    }
  }

  static void inMode(String mode, Connection app, Connection support, Connection analyst, Connection backing) throws Exception {
    Object[] id = {0L};
    var ssn = "SELECT ssn FROM people WHERE id = ?";
    check("protected.insert." + mode, () -> {
      rows(app, "DELETE FROM people");
      id[0] = one(app, "INSERT INTO people (name, email, ssn) VALUES (?, ?, ?) RETURNING id", "One", "planted.one@example.com", SSN1);
    });
    check("protected.read." + mode, () -> {
      try (var s = app.prepareStatement(ssn)) {
        for (int i = 0; i < 12; i++) same(rows(s, id[0]).get(0).get(0), SSN1);
      }
    });
    check("protected.find." + mode, () -> {
      try (var s = app.prepareStatement("SELECT name FROM people WHERE ssn = ?")) {
        for (int i = 0; i < 12; i++) same(rows(s, SSN1).get(0).get(0), "One");
      }
    });
    check("protected.in." + mode, () -> same(rows(app, "SELECT name FROM people WHERE ssn IN (?, ?)", SSN1, SSN3).size(), 1));
    check("protected.update." + mode, () -> {
      rows(app, "UPDATE people SET ssn = ? WHERE ssn = ?", SSN2, SSN1);
      same(one(app, ssn, id[0]), SSN2);
    });
    check("protected.masked." + mode, () -> same(one(support, ssn, id[0]), "***-**-5462"));
    check("protected.token." + mode, () -> {
      var t = (String) one(analyst, ssn, id[0]);
      same(t.matches("[A-Z]{3}-\\d\\d-\\d{4}"), true);
      same(one(backing, ssn, id[0]), t);
    });
    check("protected.batch." + mode, () -> {
      try (var s = app.prepareStatement("INSERT INTO people (name, ssn) VALUES (?, ?)")) {
        for (int i = 0; i < 50; i++) {
          s.setString(1, "n");
          s.setString(2, "512-34-" + (1000 + i));
          s.addBatch();
        }
        s.executeBatch();
      }
      same(one(app, "SELECT count(ssn) FROM people"), 51L);
    });
    check("protected.cursor." + mode, () -> {
      app.setAutoCommit(false);
      try (var s = app.prepareStatement("SELECT ssn FROM people WHERE name = ? ORDER BY id")) {
        s.setFetchSize(10);
        var all = rows(s, "n");
        same(all.size(), 50);
        same(all.get(49).get(0), "512-34-1049");
      }
      app.commit();
      app.setAutoCommit(true);
    });
    check("protected.rollback." + mode, () -> {
      app.setAutoCommit(false);
      rows(app, "INSERT INTO people (name, ssn) VALUES (?, ?)", "Lost", SSN3);
      app.rollback();
      app.setAutoCommit(true);
      same(rows(app, "SELECT 1 FROM people WHERE ssn = ?", SSN3).size(), 0);
    });
    check("protected.updatable." + mode, () -> {
      try (var s = app.prepareStatement("SELECT id, name, ssn FROM people WHERE id = ?", ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
        s.setObject(1, id[0]);
        var r = s.executeQuery();
        r.next();
        r.updateString(3, SSN3);
        r.updateRow();
      }
      same(one(app, ssn, id[0]), SSN3);
    });
    check("protected.invalid." + mode, () -> {
      var e = fails(() -> rows(app, "UPDATE people SET ssn = ?", "219-09-99x8"));
      same(e.getSQLState(), "22P02");
      same(e.getMessage().contains("219-09"), false);
    });
    check("protected.metadata." + mode, () -> {
      same(count(app.getMetaData().getColumns(null, "public", "people", null)), 7);
      count(app.getMetaData().getIndexInfo(null, "public", "people", true, false));
    });
    check("protected.clean." + mode, () -> rows(app, "DELETE FROM people"));
  }
}
