import Foundation

/// Where a command writes: results to standard output, all else to standard error.
public struct Console: Sendable {
    let result: @Sendable (String) -> Void
    let message: @Sendable (String) -> Void

    /// A console that hands on every line without its end.
    public init(
        result: @escaping @Sendable (String) -> Void, message: @escaping @Sendable (String) -> Void
    ) {
        self.result = result
        self.message = message
    }

    /// That of the process.
    public static let standard = Console(
        result: { FileHandle.standardOutput.write(Data("\($0)\n".utf8)) },
        message: { FileHandle.standardError.write(Data("\($0)\n".utf8)) })
}
