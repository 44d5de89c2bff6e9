import Foundation

/// A failure that a user can meet. Its message says what was wrong, what was expected and what to
/// do next.
///
/// Exit codes and titles are those of the `kokoro-coreml` command (`kokoro_coreml/errors.py`).
public enum KokoroError: LocalizedError, Equatable, Sendable {
    /// An argument of a call that no input of a user can be.
    case argument(String)
    /// The network's configuration is unreadable or contradicts itself.
    case checkpoint(String)
    /// A voice is unknown, unreadable or of the wrong shape, or a blend cannot be parsed.
    case voice(String)
    /// A phoneme is not in the vocabulary, or the text is empty or longer than the network takes.
    case phonemes(String)
    /// The speech needs more samples than the largest bucket holds; a split of the text may help.
    case frameOverflow(needed: Int, held: Int)
    /// A package or a stage of it cannot be loaded or run, or is not what the manifest says.
    case package(String)
    /// The network or its audio gave numbers that cannot be, such as NaN.
    case parity(String)
    /// A bundle or WAV file is missing, wrong, or cannot be written.
    case bundle(String)

    /// What the command line leaves with.
    public var exitCode: Int32 {
        switch self {
        case .argument: return 2
        case .checkpoint: return 4
        case .voice: return 6
        case .phonemes, .frameOverflow: return 7
        case .package: return 9
        case .parity: return 10
        case .bundle: return 11
        }
    }

    /// The kind of failure in a word, as Python's errors name it.
    public var title: String {
        switch self {
        case .argument: return "usage"
        case .checkpoint: return "checkpoint"
        case .voice: return "voice"
        case .phonemes, .frameOverflow: return "phonemes"
        case .package: return "package"
        case .parity: return "parity"
        case .bundle: return "bundle"
        }
    }

    /// The message.
    public var message: String {
        switch self {
        case .argument(let message), .checkpoint(let message), .voice(let message),
            .phonemes(let message), .package(let message), .parity(let message),
            .bundle(let message):
            return message
        case .frameOverflow(let needed, let held):
            return "the speech needs \(needed) samples, but the bucket holds \(held); "
                + "use a bucket with more frames or split the text"
        }
    }

    /// The message, for `localizedDescription`.
    public var errorDescription: String? { message }
}
