import Foundation

/// A value of a document and where it stands, read as strictly as `kokoro_coreml/tables.py` does:
/// every error names the place, what was expected and what was found.
struct Located {
    let value: JSONValue
    let document: String
    var path = ""

    /// An error about this value.
    func failure(_ message: String) -> KokoroError {
        .bundle("\(document): \(path.isEmpty ? "" : "'\(path)' ")\(message)")
    }

    func string() throws -> String {
        guard case .string(let text) = value else { throw unexpected("a string") }
        return text
    }

    /// A string of at least one code point.
    func text() throws -> String {
        let text = try string()
        guard !text.isEmpty else {
            throw failure("must have a length of at least 1, found ''")
        }
        return text
    }

    /// A path inside the bundle.
    func relativePath() throws -> String {
        let text = try string()
        guard RelativePath.isValid(text) else {
            throw failure("must be \(RelativePath.meaning), found \(value.shown(80))")
        }
        return text
    }

    func sha256() throws -> String {
        let text = try string()
        let digits = "0123456789abcdef".unicodeScalars
        guard text.unicodeScalars.count == 64, text.unicodeScalars.allSatisfy(digits.contains)
        else {
            throw failure(
                "must be a SHA-256 of 64 lower-case hexadecimal digits, found \(value.shown(80))")
        }
        return text
    }

    func integer(within range: ClosedRange<Int>) throws -> Int {
        guard case .integer(let digits) = value else { throw unexpected("an integer") }
        let isNegative = digits.hasPrefix("-")
        let number = Int(digits) ?? (isNegative ? Int.min : Int.max)
        if number < range.lowerBound || (isNegative && Int(digits) == nil) {
            throw failure(
                "must be of at least \(general(range.lowerBound)), found \(value.shown())")
        }
        if number > range.upperBound || Int(digits) == nil {
            throw failure("must be of at most \(general(range.upperBound)), found \(value.shown())")
        }
        return number
    }

    /// A whole number that a 32-bit size may be.
    func positive() throws -> Int { try integer(within: 1...Int(Int32.max)) }

    /// A finite number, written with a point or without.
    func number() throws -> Double {
        let number: Double
        switch value {
        case .integer(let digits): number = Double(digits) ?? .infinity
        case .double(let double): number = double
        default: throw unexpected("a number")
        }
        guard number.isFinite else {
            throw failure("must be a finite number, found \(value.shown())")
        }
        return number
    }

    /// One of the texts of an enumeration.
    func choice<Choice: RawRepresentable & CaseIterable>(
        _: Choice.Type = Choice.self
    ) throws -> Choice where Choice.RawValue == String {
        if case .string(let text) = value,
            let choice = Choice.allCases.first(where: { same($0.rawValue, text) })
        {
            return choice
        }
        let known = Choice.allCases.map { quoted($0.rawValue) }.joined(separator: ", ")
        throw failure("must be one of \(known); found \(value.shown())")
    }

    /// nil for `null`, else what `read` makes of it.
    func optional<Result>(_ read: (Located) throws -> Result) throws -> Result? {
        value == .null ? nil : try read(self)
    }

    func list<Item>(minimum: Int = 0, of read: (Located) throws -> Item) throws -> [Item] {
        guard case .array(let items) = value else { throw unexpected("a list") }
        let read = try items.enumerated().map { index, item in
            try read(Located(value: item, document: document, path: "\(path)[\(index)]"))
        }
        guard read.count >= minimum else {
            throw failure("must have a length of at least \(minimum), found ()")
        }
        return read
    }

    /// A table of any keys, which `check` may refuse.
    func table<Item>(
        names check: (Located) throws -> Void = { _ in }, of read: (Located) throws -> Item
    ) throws -> ExactTable<Item> {
        guard case .object(let table) = value else { throw unexpected("a table") }
        var result = ExactTable<Item>()
        for (name, item) in table.entries {
            try check(inside(name, .string(name)))
            result[name] = try read(inside(name, item))
        }
        return result
    }

    /// A table of fixed keys, all of them there but for optional ones.
    func record(_ keys: [String], optional: [String] = []) throws -> LocatedRecord {
        guard case .object(let table) = value else { throw unexpected("a table") }
        let known = keys + optional
        for name in table.names where !known.contains(where: { same($0, name) }) {
            let inside = path.isEmpty ? "at the top level" : "in table '\(path)'"
            throw KokoroError.bundle(
                "\(document): unknown key '\(name)' \(inside); \(nearest(name, of: known))")
        }
        if let missing = keys.first(where: { table[$0] == nil }) {
            let inside = path.isEmpty ? "the top level" : "table '\(path)'"
            throw KokoroError.bundle("\(document): \(inside) lacks the key '\(missing)'")
        }
        return LocatedRecord(table: table, place: self)
    }

    func inside(_ name: String, _ value: JSONValue) -> Located {
        Located(value: value, document: document, path: path.isEmpty ? name : "\(path).\(name)")
    }

    private func unexpected(_ kind: String) -> KokoroError {
        failure("must be \(kind), found \(value.shown())")
    }

    private func general(_ number: Int) -> String { String(format: "%g", Double(number)) }
}

/// A table whose keys were checked.
struct LocatedRecord {
    let table: ExactTable<JSONValue>
    let place: Located

    /// The value of a key; `null` where an optional one is not there.
    subscript(_ key: String) -> Located { place.inside(key, table[key] ?? .null) }
}

/// Paths inside a bundle: forward slashes, no `.` or `..`, no colon, backslash or control
/// character.
enum RelativePath {
    static let meaning = "a path inside the bundle, with forward slashes and without '.' or '..'"

    static func isValid(_ path: String) -> Bool {
        path.unicodeScalars.split(separator: "/", omittingEmptySubsequences: false).allSatisfy {
            part in
            !part.isEmpty && !part.elementsEqual(["."]) && !part.elementsEqual([".", "."])
                && part.allSatisfy { $0.value > 0x1F && $0 != "\\" && $0 != ":" }
        }
    }
}

extension JSONValue {
    /// The value for a message, at most `length` code points of it.
    func shown(_ length: Int = 60) -> String { description.unicodeScalars.prefix(length).text }

    private var description: String {
        switch self {
        case .null: return "None"
        case .bool(let bool): return bool ? "True" : "False"
        case .integer(let digits): return digits
        case .double(let double): return "\(double)"
        case .string(let text): return quoted(text)
        case .array(let items):
            return "[" + items.map(\.description).joined(separator: ", ") + "]"
        case .object(let table):
            let entries = table.entries.map { "\(quoted($0.name)): \($0.value.description)" }
            return "{" + entries.joined(separator: ", ") + "}"
        }
    }
}
