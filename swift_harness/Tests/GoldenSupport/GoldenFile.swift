import Foundation
import KokoroBundle

/// One of `artifacts/goldens/`: inputs of a function and what Python's makes of them.
public struct GoldenFile: Sendable {
    /// Name of the function.
    public let name: String
    /// Number of cases.
    public var count: Int { cases.count }
    private let tolerance: Double
    private let cases: [GoldenInput]

    /// The folder, seen from this file.
    public static let folder = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("artifacts/goldens")

    /// Reads the file of a function.
    ///
    /// - Throws: if it is missing, is not what the index says, or has another schema.
    public init(_ name: String) throws {
        let document = try GoldenInput(values: Self.object("\(name).json"))
        guard try document.integer("schema") == 1, try document.text("function") == name else {
            throw GoldenFailure(reason: "\(name).json is not of schema 1 or of another function")
        }
        guard case .number(let tolerance) = try GoldenValue(document.values["tolerance"] ?? .null)
        else { throw GoldenFailure(reason: "\(name).json states no tolerance") }
        self.name = name
        self.tolerance = tolerance
        cases = try document.tables("cases")
    }

    /// The content of a file that the index lists.
    ///
    /// - Throws: if it is missing or not what the index says.
    public static func content(_ file: String) throws -> Data {
        let data = try Data(contentsOf: folder.appendingPathComponent(file))
        let listed = try index().table(file)
        guard try listed.text("sha256") == ContentDigest.of(data),
            try listed.integer("bytes") == data.count
        else { throw GoldenFailure(reason: "\(file) is not what index.json says") }
        return data
    }

    /// Names of the functions that have a file.
    public static func functions() throws -> [String] {
        try index().values.names.filter { $0 != "vocabulary.json" }.map { name in
            String(name.dropLast(".json".count))
        }
    }

    /// Runs every case and says what was not as it must be.
    ///
    /// - Parameter function: from the input to the output; a `KokoroError` where it must refuse.
    /// - Returns: a sentence per failure, with the id of its case.
    public func failures(_ function: (GoldenInput) throws -> GoldenValue) -> [String] {
        cases.compactMap { golden in
            let id = (try? golden.text("id")) ?? "without id"
            do {
                return try failure(of: golden, function).map { "\(name) \(id): \($0)" }
            } catch {
                return "\(name) \(id): \(error)"
            }
        }
    }

    private func failure(
        of golden: GoldenInput, _ function: (GoldenInput) throws -> GoldenValue
    ) throws -> String? {
        let found: GoldenValue
        do {
            found = try function(golden.table("input"))
        } catch let error as KokoroError {
            return try refusal(error, of: golden)
        }
        guard golden.has("output") else { return "accepted, expected an error" }
        let expected = try GoldenValue(.object(golden.table("output").values))
        return found.difference(from: expected, tolerance: tolerance)
    }

    private func refusal(_ error: KokoroError, of golden: GoldenInput) throws -> String? {
        guard golden.has("error") else { return "refused: \(error.message)" }
        let expected = try golden.table("error")
        let code = try expected.integer("code")
        guard error.exitCode == code, try error.title == expected.text("title") else {
            return "refused with \(error.title) \(error.exitCode), expected code \(code)"
        }
        let parts = try expected.texts("contains")
        return parts.first { !error.message.contains($0) }.map {
            "the message '\(error.message)' lacks '\($0)'"
        }
    }

    private static func index() throws -> GoldenInput {
        try GoldenInput(
            values: parsed(Data(contentsOf: folder.appendingPathComponent("index.json")))
        )
        .table("files")
    }

    private static func object(_ file: String) throws -> ExactTable<JSONValue> {
        try parsed(content(file))
    }

    private static func parsed(_ data: Data) throws -> ExactTable<JSONValue> {
        guard case .object(let table) = try JSONValue(parsing: data) else {
            throw GoldenFailure(reason: "expected an object")
        }
        return table
    }
}
