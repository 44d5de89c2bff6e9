import Foundation
import KokoroBundle

/// The machine that a measurement was made on.
struct MachineFacts: Sendable {
    /// `macOS`, `iOS`, or another, which has no Core ML.
    let system: String
    /// Such as `15.1.0`.
    let systemVersion: String
    /// As the hardware names itself, such as `Mac14,3`.
    let model: String
    /// Name of the processor.
    let processor: String
    /// Processors that are in use.
    let cores: Int
    /// Size of the memory.
    let memoryBytes: Int

    /// This one.
    static var current: MachineFacts {
        let process = ProcessInfo.processInfo
        let version = process.operatingSystemVersion
        return MachineFacts(
            system: systemName,
            systemVersion: [version.majorVersion, version.minorVersion, version.patchVersion]
                .map(String.init).joined(separator: "."),
            model: hardware("hw.model") ?? "unknown",
            processor: hardware("machdep.cpu.brand_string") ?? "unknown",
            cores: process.activeProcessorCount, memoryBytes: Int(process.physicalMemory))
    }

    /// Largest resident size of this process so far, in bytes.
    static var peakBytes: Int {
        var usage = rusage()
        #if os(Linux)
            guard getrusage(Int32(RUSAGE_SELF.rawValue), &usage) == 0 else { return 0 }
            return Int(usage.ru_maxrss) * 1024
        #else
            guard getrusage(RUSAGE_SELF, &usage) == 0 else { return 0 }
            return Int(usage.ru_maxrss)
        #endif
    }

    private static var systemName: String {
        #if os(macOS)
            return "macOS"
        #elseif os(iOS)
            return "iOS"
        #elseif os(Linux)
            return "Linux"
        #else
            return "another system"
        #endif
    }

    private static func hardware(_ name: String) -> String? {
        #if canImport(Darwin)
            var size = 0
            guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return nil }
            var bytes = [UInt8](repeating: 0, count: size)
            guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return nil }
            return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        #else
            return nil
        #endif
    }

    /// As `parity/harness.py` reads it.
    var json: JSONValue {
        .table([
            "system": .string(system), "system_version": .string(systemVersion),
            "model": .string(model), "processor": .string(processor), "cores": .count(cores),
            "memory_bytes": .count(memoryBytes),
        ])
    }
}

/// The compiler's version, as far as the code can tell.
enum SwiftVersion {
    /// Such as `6.0`; the newest that is known here at most.
    static var name: String {
        #if compiler(>=6.2)
            return "6.2 or later"
        #elseif compiler(>=6.1)
            return "6.1"
        #elseif compiler(>=6.0)
            return "6.0"
        #else
            return "5.9 or 5.10"
        #endif
    }
}
