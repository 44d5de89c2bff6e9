import Foundation
import KokoroBundle

/// The golden file of one function: its inputs and what Python's makes of them.
public struct GoldenFile: Sendable {
    /// Name of the function.
    public let name: String
    /// Number of cases.
    public var count: Int { cases.count }
    private let tolerance: Double
    private let cases: [GoldenInput]

    /// Reads the file of a function.
    ///
    /// - Parameters:
    ///   - name: of the function.
    ///   - folder: of the golden files.
    /// - Throws: `KokoroError.bundle` if it is missing, is not what the index says, or has another
    ///   schema.
    public init(_ name: String, in folder: GoldenFolder) throws {
        do {
            let document = try GoldenInput(values: folder.object("\(name).json"))
            guard try document.integer("schema") == 1, try document.text("function") == name else {
                throw GoldenFailure(reason: "is not of schema 1 or of another function")
            }
            guard
                case .number(let tolerance) = try GoldenValue(document.values["tolerance"] ?? .null)
            else { throw GoldenFailure(reason: "states no tolerance") }
            self.name = name
            self.tolerance = tolerance
            cases = try document.tables("cases")
        } catch let error as GoldenFailure {
            throw KokoroError.bundle("'\(name).json': \(error.reason)")
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
}
