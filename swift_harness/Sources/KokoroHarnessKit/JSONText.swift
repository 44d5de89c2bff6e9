import KokoroBundle

/// Writes JSON, names in the order of their tables.
enum JSONText {
    /// A document of several lines.
    static func document(_ value: JSONValue) -> String { text(value, depth: 0) + "\n" }

    private static func text(_ value: JSONValue, depth: Int) -> String {
        switch value {
        case .null: return "null"
        case .bool(let bool): return bool ? "true" : "false"
        case .integer(let digits): return digits
        case .double(let number):
            precondition(number.isFinite, "JSON has no number for infinity")
            return "\(number)"
        case .string(let text): return quoted(text)
        case .array(let items):
            return block("[", items.map { text($0, depth: depth + 1) }, "]", depth)
        case .object(let table):
            let rows = table.entries.map { name, value in
                "\(quoted(name)): \(text(value, depth: depth + 1))"
            }
            return block("{", rows, "}", depth)
        }
    }

    private static func block(_ open: String, _ rows: [String], _ close: String, _ depth: Int)
        -> String
    {
        guard !rows.isEmpty else { return open + close }
        let margin = String(repeating: " ", count: depth)
        return open + "\n" + rows.map { "\(margin) \($0)" }.joined(separator: ",\n")
            + "\n\(margin)\(close)"
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}

extension JSONValue {
    /// A table in this order.
    static func table(_ pairs: KeyValuePairs<String, JSONValue>) -> JSONValue {
        var table = ExactTable<JSONValue>()
        for (name, value) in pairs { table[name] = value }
        return .object(table)
    }

    /// A table of names and values, sorted by name.
    static func sorted(_ values: [String: JSONValue]) -> JSONValue {
        var table = ExactTable<JSONValue>()
        for name in values.keys.sorted() { table[name] = values[name] }
        return .object(table)
    }

    /// A whole number.
    static func count(_ number: Int) -> JSONValue { .integer(String(number)) }

    /// A text or null.
    static func text(_ text: String?) -> JSONValue { text.map(JSONValue.string) ?? .null }

    /// A number or null.
    static func number(_ number: Double?) -> JSONValue { number.map(JSONValue.double) ?? .null }
}
